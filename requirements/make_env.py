#!/usr/bin/env python
"""Make the environment: `python requirements/make_env.py .venv` with Python 3.11 or newer.

Where Detectron2 already imports, the new environment sees that installation and leaves it alone.
Elsewhere it gets the pinned wheel below, as pure Python: its compiled part is built for another
Python and another torch, and nothing here needs it. Only the standard library is imported.

`python requirements/make_env.py --detectron2-0.6 FOLDER`, run by the Python of such an environment,
makes a folder that gives it Detectron2's last release instead: put the folder on PYTHONPATH.
"""

import argparse
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
WHEEL = "sal-detectron2==0.7.2"
WHEEL_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
RELEASE = "pb1-detectron2==0.6"  # the source of Detectron2's last release
RELEASE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
# The environment takes 6.1 GB (torch with its CUDA libraries), and pip unpacks beside it.
REQUIRED_GB = 8
# In place of what the release compiles: answers for its log, and the evaluation it speeds up.
STAND_INS = {
    "_C.py": 'get_compiler_version = get_cuda_version = lambda: "not built"\n'
    "has_cuda = lambda: False\n",
    "evaluation/fast_eval_api.py": "from pycocotools.cocoeval import COCOeval as COCOeval_opt\n",
}


def can_import(python: str, module: str) -> bool:
    """Whether ``module`` imports in the interpreter ``python``."""
    code = f"import {module}"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def pip(python: str, arguments: Sequence[str]) -> None:
    """Run pip in the environment; a failure ends the program with what to do."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(
            f"error: pip {' '.join(arguments)} failed (above). If a package was not found, check "
            "the network and pip's index; then run the same command again, what is done stays done."
        )


def missing(python: str, file: Path) -> "list[str]":
    """Lines of a requirements file whose module (`# import NAME`) does not import."""
    lines = []
    for line in file.read_text().splitlines():
        requirement, _, comment = line.partition("#")
        if requirement.strip():
            module = comment.replace("import", "").strip() or requirement.split("==")[0].strip()
            if not can_import(python, module):
                lines.append(requirement.strip())
    return lines


def install(python: str, file: str, only_missing: bool) -> None:
    """Install what a requirements file names; where packages are the user's, only what lacks."""
    path = REQUIREMENTS / file
    what = missing(python, path) if only_missing else ["-r", str(path)]
    if what:
        print(f"installing {file}: {', '.join(what) if only_missing else 'all'}", flush=True)
        pip(python, ["install", "--quiet", *what])


def download(
    python: str, folder: str, requirement: str, *, options: Sequence[str], sha256: str
) -> Path:
    """Download one file into an empty folder; pip refuses another content before it runs any."""
    wanted = Path(folder) / "wanted.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    where = ["--dest", str(folder), "--requirement", str(wanted)]
    pip(python, ["download", "--quiet", "--no-deps", *options, *where])
    wanted.unlink()
    return next(Path(folder).iterdir())


def install_detectron2(python: str) -> None:
    """Install the Python part of the pinned Detectron2 wheel."""
    print(f"installing {WHEEL} (pure Python)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--only-binary=:all:", "--python-version", "3.10"]
        options += ["--implementation", "cp", "--platform", "manylinux2014_x86_64"]
        wheel = download(python, folder, WHEEL, options=options, sha256=WHEEL_SHA256)
        pure = pure_python_wheel(python, wheel)
        pip(python, ["install", "--quiet", "--no-deps", str(pure)])


def make_release(folder: str) -> None:
    """Make or renew a folder with Detectron2 0.6 and packages of its time.

    On the path before an environment's packages it replaces them; torch stays the environment's.

    Args:
        folder (str or Path): holds nothing else.
    """
    if sys.version_info >= (3, 12):
        sys.exit("error: numpy and scipy of Detectron2 0.6's time need Python 3.11 or older.")
    if not can_import(sys.executable, "torch"):
        sys.exit(
            f"error: {sys.executable} has no torch, which the build of {RELEASE} asks for. Use the "
            "Python of an environment that has one: .venv/bin/python after `make env`."
        )
    print(f"making {folder} with {RELEASE} (its Python part)", flush=True)
    shutil.rmtree(Path(folder) / "detectron2", ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        archive = download(
            sys.executable,
            temporary,
            RELEASE,
            options=["--no-build-isolation"],
            sha256=RELEASE_SHA256,
        )
        shutil.unpack_archive(archive, temporary)
        source = next(Path(temporary).glob("*/detectron2"))
        shutil.copytree(source, Path(folder) / "detectron2")
    for name, text in STAND_INS.items():
        (Path(folder) / "detectron2" / name).write_text(text)
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--upgrade", "--target", str(folder)]
    requirements = ["-r", str(REQUIREMENTS / "detectron2-0.6.txt")]
    pip(sys.executable, ["install", *options, *requirements])


def pure_python_wheel(python: str, wheel: Path) -> Path:
    """The wheel without compiled files, tagged for any Python, and without its bound numpy<2."""
    run = [python, "-m", "wheel"]
    subprocess.run([*run, "unpack", "-d", wheel.parent, wheel], check=True, capture_output=True)
    tree = next(p for p in wheel.parent.iterdir() if p.is_dir())
    info = next(tree.glob("*.dist-info"))
    for extra in set(tree.iterdir()) - {info, tree / "detectron2"}:
        shutil.rmtree(extra)  # a package called `tools`, which would shadow others
    for compiled in tree.rglob("*.so"):
        compiled.unlink()
    edit(info / "METADATA", r"^Requires-Dist: numpy.*\n", "Requires-Dist: numpy\n")
    edit(info / "WHEEL", r"^Tag: .*\n", "Tag: py3-none-any\n")
    edit(info / "WHEEL", r"^Root-Is-Purelib: .*\n", "Root-Is-Purelib: true\n")
    wheel.unlink()
    subprocess.run([*run, "pack", "-d", wheel.parent, tree], check=True, capture_output=True)
    return next(wheel.parent.glob("*.whl"))


def check_space(folder: str) -> None:
    """End the program with a sentence if the disk cannot hold the environment."""
    free = shutil.disk_usage(Path(folder).resolve().parent).free / 1e9
    if free < REQUIRED_GB:
        sys.exit(
            f"error: {free:.1f} GB are free where {folder} would be made, {REQUIRED_GB} are needed "
            "for torch and its libraries. Free some, or name another folder: make VENV=FOLDER."
        )


def create(folder: str) -> None:
    """Make a virtual environment; one that is not complete is not left behind."""
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(
            f"error: {sys.executable} cannot make virtual environments. On Debian and Ubuntu: "
            f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv."
        )


def see_packages_of_this_python(python: str) -> None:
    """Let the environment import what the running interpreter can import, editable installs too.

    Unlike ``system_site_packages`` this also works when the interpreter is itself a venv's.
    """
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    folders = site.getsitepackages() + [site.getusersitepackages()] * bool(site.ENABLE_USER_SITE)
    lines = [f"import site; site.addsitedir({folder!r})" for folder in folders]
    (Path(done.stdout.strip()) / "parent_python.pth").write_text("\n".join(lines) + "\n")


def edit(file: Path, pattern: str, replacement: str) -> None:
    """Replace a line of a text file."""
    file.write_text(re.sub(pattern, replacement, file.read_text(), flags=re.MULTILINE))


def make(folder: str) -> None:
    """Make or complete the environment in ``folder``."""
    own_detectron2 = can_import(sys.executable, "detectron2")
    if sys.version_info < (3, 11) and not own_detectron2:
        sys.exit(f"error: the pinned versions need Python 3.11; this is {sys.version.split()[0]}.")
    python = str(Path(folder) / "bin" / "python")
    if not Path(python).exists():
        if not own_detectron2:
            check_space(folder)
        print(f"making {folder} with Python {sys.version.split()[0]}", flush=True)
        create(folder)
    if own_detectron2:
        print(f"using the Detectron2 of {sys.executable}; it is left as it is", flush=True)
        see_packages_of_this_python(python)
    for file in ("torch.txt", "runtime.txt"):
        install(python, file, only_missing=own_detectron2)
    # Their programs belong into this environment, even where the modules are the user's.
    own = ["--ignore-installed"] if own_detectron2 else []
    pip(python, ["install", "--quiet", *own, "-r", str(REQUIREMENTS / "tests.txt")])
    if not can_import(python, "detectron2"):
        install_detectron2(python)
    pip(python, ["install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    sys.exit(subprocess.run([python, str(ROOT / "tools" / "check_env.py")], check=False).returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="default: .venv; with the option .venv-d2-06")
    parser.add_argument(
        "--detectron2-0.6", action="store_true", dest="release",
        help="make a folder with Detectron2 0.6, for PYTHONPATH, instead of an environment",
    )  # fmt: skip
    args = parser.parse_args()
    # A PYTHONPATH of the caller would make imports succeed that fail without it.
    os.environ.pop("PYTHONPATH", None)
    if args.release:
        make_release(args.folder or ".venv-d2-06")
    else:
        make(args.folder or ".venv")
