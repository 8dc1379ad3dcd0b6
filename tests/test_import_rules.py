"""The dependency rule of projects/README.md, read from the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ROOT / "projects"
COMMON = "instance_seg_common"
PLUGINS = {"recurrent_instance_seg", "embedding_instance_seg", "otsu_watershed"}
ANALYSIS = "instance_seg_analysis"
PLUGIN_MAY_IMPORT = {"torch", "numpy", "scipy", "fvcore", "detectron2", "instance_seg_common"}
OPTIONAL = {"skimage", "sklearn", "cityscapesscripts", "matplotlib", "tensorboard"}


def sources():
    """(package, file) of every module below projects/."""
    files = PROJECTS.glob("*/*/**/*.py")
    return [(f.relative_to(PROJECTS).parts[1], f) for f in sorted(files)]


def imports(file, top_level_only=False):
    """Full names of the modules that a file imports."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return names


IDS = [str(f.relative_to(PROJECTS)) for _, f in sources()]


@pytest.mark.parametrize(("package", "file"), sources(), ids=IDS)
def test_packages_import_only_what_they_may(package, file):
    found = imports(file)
    roots = {name.split(".")[0] for name in found}
    if package != ANALYSIS:
        assert not roots & (PLUGINS - {package}), "imports a plugin"
        assert ANALYSIS not in roots
    assert "tools" not in roots
    if package in PLUGINS:
        shared = {name for name in found if name.split(".")[0] == COMMON}
        assert shared <= {f"{COMMON}.{name}" for name in ("masks", "errors", "meta_arch")}
        outside = {name.split(".")[0] for name in imports(file, top_level_only=True)}
        assert outside - set(sys.stdlib_module_names) - {package} <= PLUGIN_MAY_IMPORT


@pytest.mark.parametrize(("package", "file"), sources(), ids=IDS)
def test_optional_dependencies_are_imported_where_they_are_used(package, file):
    roots = {name.split(".")[0] for name in imports(file, top_level_only=True)}
    assert not roots & OPTIONAL


def test_the_common_package_itself_is_empty():
    assert (PROJECTS / "InstanceSegCommon" / COMMON / "__init__.py").read_text() == ""


def test_importing_everything_registers_no_data_set_and_keeps_the_random_state():
    modules = [
        ".".join(f.relative_to(PROJECTS).parts[1:]).removesuffix(".py").removesuffix(".__init__")
        for _, f in sources()
    ]
    code = (
        "import importlib, sys, random, numpy, torch\n"
        "sys.modules['detectron2._C'] = None\n"
        "import detectron2.data, detectron2.engine\n"
        "from detectron2.config import get_cfg\n"
        "from detectron2.data import DatasetCatalog\n"
        "state = lambda: (random.getstate()[1][-1], numpy.random.get_state()[2],"
        " torch.initial_seed(), set(DatasetCatalog.list()), get_cfg().dump())\n"
        "before = state()\n"
        f"[importlib.import_module(name) for name in {modules}]\n"
        "assert state() == before, 'an import changed the catalog, random state or defaults'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The rooms of the common package from the ground up: a room imports from those at or below its own.
ROOMS = [
    {"errors"},
    {"masks", "config", "meta_arch"},
    {"data"},
    {"evaluation"},
    {"visualization"},
    {"engine"},
]
COMMON_FILES = sorted((PROJECTS / "InstanceSegCommon" / COMMON).rglob("*.py"))


def rooms_imported(file):
    """Names of modules or sub-packages directly below the common package that a file imports."""
    package = list(file.relative_to(PROJECTS / "InstanceSegCommon").parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = [*above, node.module] if node.module else above
            names |= {".".join([*module, alias.name]) for alias in node.names}
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == COMMON and len(p) > 1}


@pytest.mark.parametrize("file", COMMON_FILES, ids=lambda f: f.stem)
def test_rooms_of_the_common_package_import_only_downwards(file):
    level = {name: height for height, names in enumerate(ROOMS) for name in names}
    room = Path(file.relative_to(PROJECTS / "InstanceSegCommon" / COMMON).parts[0]).stem
    if room != "__init__":
        assert all(level[other] <= level[room] for other in rooms_imported(file))


def test_imports_upwards_would_be_seen(tmp_path, monkeypatch):
    folder = tmp_path / "InstanceSegCommon" / COMMON / "data"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(
        "from ..engine.setup import load_cfg\nfrom .. import visualization\nfrom . import b\n"
        f"import {COMMON}.evaluation.matching\nimport torch\n"
    )
    monkeypatch.setitem(globals(), "PROJECTS", tmp_path)
    rooms = {"engine", "visualization", "data", "evaluation"}
    assert rooms_imported(folder / "a.py") == rooms
