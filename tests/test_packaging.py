"""What `pip install .` and `make env` put where."""

import hashlib
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import make_env
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The project installed into a folder of its own, from a copy without leftovers of builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "projects", source / "projects", ignore=ignore)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--target", str(target), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def packages():
    """PROJECTS of setup.py, read from its text so that nothing is built."""
    text = re.search(r"PROJECTS = (\{.*?\})", (ROOT / "setup.py").read_text(), re.DOTALL).group(1)
    return eval(text)  # noqa: S307


def test_every_project_is_installed_and_nothing_else(installed):
    found = {f.name for f in installed.iterdir() if not f.name.endswith(".dist-info")}
    assert found == set(packages())


def test_every_module_is_installed(installed):
    for package, folder in packages().items():
        modules = {f.relative_to(ROOT / folder) for f in (ROOT / folder).rglob("*.py")}
        assert modules == {
            f.relative_to(installed / package) for f in (installed / package).rglob("*.py")
        }


def test_the_table_of_published_figures_is_installed(installed):
    table = Path("instance_seg_common", "evaluation", "published.csv")
    source = ROOT / packages()["instance_seg_common"] / "evaluation" / "published.csv"
    assert (installed / table).read_text() == source.read_text()


def test_every_folder_of_projects_is_listed():
    folders = {f.relative_to(ROOT).as_posix() for f in (ROOT / "projects").glob("*/*/")}
    sources = {f for f in folders if (ROOT / f / "__init__.py").is_file()}
    assert sources == set(packages().values())


def test_setup_requires_nothing(installed):
    metadata = next(installed.glob("*.dist-info/METADATA")).read_text()
    assert "Requires-Dist" not in metadata


def test_detectron2_wheel_becomes_pure_python(tmp_path):
    info = "some_detectron2-1.0.dist-info"
    tree = tmp_path / "tree"
    for name, text in {
        "detectron2/__init__.py": "",
        "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "binary",
        "tools/__init__.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: some-detectron2\nVersion: 1.0\n"
        "Requires-Dist: numpy<2\nRequires-Dist: yacs>=0.1.8\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: false\n"
        "Tag: cp310-cp310-linux_x86_64\n",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tmp_path / "download").mkdir()
    pack = [sys.executable, "-m", "wheel", "pack", str(tree), "-d", str(tmp_path / "download")]
    subprocess.run(pack, check=True, capture_output=True)
    wheel = next((tmp_path / "download").glob("*.whl"))
    pure = make_env.pure_python_wheel(sys.executable, wheel)
    assert pure.name == "some_detectron2-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pure) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "detectron2/__init__.py" in names
    assert not [n for n in names if n.endswith(".so") or n.startswith("tools/")]
    assert "numpy<2" not in metadata
    assert "yacs>=0.1.8" in metadata


def test_a_download_with_another_content_is_refused(tmp_path, capsys):
    info = tmp_path / "tree" / "tiny-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    pack = [sys.executable, "-m", "wheel", "pack", str(tmp_path / "tree"), "-d", str(tmp_path)]
    subprocess.run(pack, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    options = ["--no-index", "--find-links", str(tmp_path)]

    def download(name, sha256):
        (tmp_path / name).mkdir()
        return make_env.download(
            sys.executable, tmp_path / name, "tiny==1.0", options=options, sha256=sha256
        )

    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert download("right", right).read_bytes() == wheel.read_bytes()
    with pytest.raises(SystemExit, match="pip download .* failed"):
        download("wrong", "0" * 64)
    assert "DO NOT MATCH THE HASHES" in capsys.readouterr().err


def test_detectron2_06_needs_an_environment_with_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(make_env, "can_import", lambda python, module: False)
    with pytest.raises(SystemExit, match="has no torch"):
        make_env.make_release(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_only_what_does_not_import_is_installed(tmp_path):
    file = tmp_path / "r.txt"
    file.write_text("numpy==0.0.1\nopencv-python-headless==9  # import cv2\nno-such-thing==1\n")
    assert make_env.missing(sys.executable, file) == ["no-such-thing==1"]


def test_a_full_disk_is_a_sentence_before_anything_is_made(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=10**9)
    monkeypatch.setattr(make_env.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(make_env, "can_import", lambda python, module: False)
    with pytest.raises(SystemExit, match=r"1\.0 GB are free where .* 8 are needed"):
        make_env.make(tmp_path / "env")
    assert not (tmp_path / "env").exists()


def test_requirements_name_modules_that_import_here():
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        assert make_env.missing(sys.executable, file) == []


def test_environment_check_finds_what_is_missing(monkeypatch, capsys):
    check_env = runpy.run_path(str(ROOT / "tools" / "check_env.py"))
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert check_env["main"]() == 1
    assert "pip install pycocotools" in capsys.readouterr().out
