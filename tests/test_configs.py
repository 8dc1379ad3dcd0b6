"""Every YAML loads, is made as the design says, and builds."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from embedding_instance_seg import add_embedding_instance_seg_config
from instance_seg_common.config import add_common_config, get_cfg_with_plugins
from instance_seg_common.engine.checks import class_count_key
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from light_backbone import add_light_backbone_config
from recurrent_instance_seg import add_recurrent_instance_seg_config
from timm_backbone import add_timm_backbone_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
PARTS = sorted(
    f for kind in ("backbones", "methods", "data") for f in CONFIGS.glob(f"{kind}/*.yaml")
)
RUNNABLE = sorted(set(CONFIGS.glob("*/*.yaml")) - set(PARTS))
# Configs whose method sees enlarged images, as its own remedy for coarse cells; docs/ says so next
# to the figures.
ENLARGED = {
    "Nuclei/recurrent_R18_upto20.yaml": 384,
    "Synthetic/recurrent_R18_shapes.yaml": 160,
}
ADDED_KEYS_ARE_READ_IN = [ROOT / "projects", ROOT / "tools"]


def name_of(path):
    return str(path.relative_to(CONFIGS))


def flatten(node, prefix=""):
    """{dotted key: value} of nested mappings."""
    flat = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def as_yaml(value):
    """Tuples written as strings in YAML, and lists, as one kind."""
    if isinstance(value, str) and value.startswith("("):
        value = ast.literal_eval(value)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("config", RUNNABLE, ids=name_of)
def test_configs_are_thin_and_name_base_backbone_method_and_data(config):
    content = yaml.safe_load(config.read_text())
    base, *backbone, method, data = content["_BASE_"]
    assert base == "../Base-InstanceSeg.yaml"
    trained = "otsu" not in method
    assert len(backbone) == trained
    assert all(re.fullmatch(r"\.\./backbones/\w+\.yaml", name) for name in backbone)
    assert re.fullmatch(r"\.\./methods/\w+\.yaml", method)
    assert re.fullmatch(r"\.\./data/\w+\.yaml", data)
    assert content["OUTPUT_DIR"] == f"output/{name_of(config).removesuffix('.yaml')}"
    assert len(config.read_text().splitlines()) <= 40


@pytest.mark.parametrize("part", [CONFIGS / "Base-InstanceSeg.yaml", *PARTS], ids=name_of)
def test_parts_have_no_base(part):
    assert "_BASE_" not in yaml.safe_load(part.read_text())


@pytest.mark.parametrize("config", RUNNABLE, ids=name_of)
def test_every_key_of_a_part_survives_unless_the_config_sets_it(config):
    content = yaml.safe_load(config.read_text())
    own = flatten(content)
    cfg = load_cfg(config)
    for part in content["_BASE_"][1:]:
        for key, value in flatten(yaml.safe_load((config.parent / part).read_text())).items():
            if key not in own:
                assert as_yaml(value_of(cfg, key)) == as_yaml(value), (part, key)


@pytest.mark.parametrize("config", RUNNABLE, ids=name_of)
def test_dump_of_a_config_reloads_equal(config, tmp_path):
    cfg = load_cfg(config)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = get_cfg_with_plugins()
    again.merge_from_file(str(tmp_path / "config.yaml"), allow_unsafe=False)
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


@pytest.mark.parametrize("config", RUNNABLE, ids=name_of)
def test_configs_build_and_light_ones_stay_light(config):
    cfg = load_cfg(config)
    assert class_count_key(cfg).removesuffix(".NUM_CLASSES").split(".")[-1] in config.read_text()
    cfg.MODEL.DEVICE = "cpu"
    parameters = sum(p.numel() for p in build_model(cfg).parameters())
    if "R50" not in config.name:
        assert parameters < 12e6


@pytest.mark.parametrize("config", RUNNABLE, ids=name_of)
def test_configs_without_weights_freeze_nothing(config):
    cfg = load_cfg(config)
    if not cfg.MODEL.WEIGHTS:
        assert cfg.MODEL.BACKBONE.FREEZE_AT == 0


@pytest.mark.parametrize(
    ("pattern", "add_config"),
    [
        ("backbones/resnet*[0-9]", lambda cfg: None),
        ("backbones/resnet*[0-9]_fpn", lambda cfg: None),
        ("backbones/*narrow*", add_light_backbone_config),
        ("backbones/efficientnet*", add_timm_backbone_config),
        ("methods/mask_rcnn*", lambda cfg: None),
        ("methods/embedding*", add_embedding_instance_seg_config),
        ("methods/recurrent*", add_recurrent_instance_seg_config),
        ("methods/ris*", add_recurrent_instance_seg_config),
        ("methods/rsis*", add_recurrent_instance_seg_config),
    ],
)
def test_parts_load_with_stock_keys_and_those_of_their_plugin(pattern, add_config):
    parts = list(CONFIGS.glob(f"{pattern}.yaml"))
    assert parts
    for part in parts:
        cfg = get_cfg()
        add_config(cfg)
        cfg.merge_from_file(str(part), allow_unsafe=False)


LIGHT_BACKBONES = sorted(CONFIGS.glob("backbones/*narrow*")) + sorted(
    CONFIGS.glob("backbones/efficientnet*")
)


@pytest.mark.parametrize("backbone", LIGHT_BACKBONES, ids=name_of)
@pytest.mark.parametrize("method", ["mask_rcnn_light", "embedding_light", "recurrent"])
def test_light_backbones_build_with_each_method(backbone, method):
    cfg = get_cfg_with_plugins()
    for part in (CONFIGS / "Base-InstanceSeg.yaml", backbone, CONFIGS / f"methods/{method}.yaml"):
        cfg.merge_from_file(str(part), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    assert sum(p.numel() for p in build_model(cfg).parameters()) < 4.5e6


# Methods that find boxes among proposals; the others have no need of a limit.
LIMITED = {"GeneralizedRCNN": {"Nuclei": 400, "Cityscapes": 120}}


def test_only_the_proposal_based_method_limits_its_detections():
    for config in RUNNABLE:
        cfg = load_cfg(config)
        limits = LIMITED.get(cfg.MODEL.META_ARCHITECTURE)
        expected = -1 if limits is None else limits.get(config.parent.name, 100)
        assert expected == cfg.TEST.DETECTIONS_PER_IMAGE, config


def test_equal_sizes_for_all_methods_on_one_data_set():
    by_set = {}
    for config in RUNNABLE:
        cfg = load_cfg(config)
        # A config may squash images instead, as a paper did: then it must not resize them twice.
        squashed = [name for name, _ in cfg.INPUT.AUGMENTATIONS if name == "Resize"]
        assert not squashed or cfg.INPUT.MIN_SIZE_TEST == 0, config
        size = cfg.INPUT.MIN_SIZE_TEST
        own = squashed or ENLARGED.get(name_of(config)) == size
        if not own:
            by_set.setdefault(cfg.DATASETS.TEST, set()).add(size)
    assert all(len(sizes) == 1 for sizes in by_set.values()), by_set


def test_adding_keys_twice_changes_nothing():
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.TEST.PATIENCE = 3
    add_common_config(cfg)
    assert cfg.TEST.PATIENCE == 3


def added_keys():
    stock, own = flatten(get_cfg()), flatten(get_cfg_with_plugins())
    return sorted(set(own) - set(stock))


@pytest.mark.parametrize("key", added_keys())
def test_every_added_key_is_read(key):
    name = key.split(".")[-1]
    text = "".join(
        f.read_text()
        for folder in ADDED_KEYS_ARE_READ_IN
        for f in folder.rglob("*.py")
        if f.name != "config.py"
    )
    if name == "NUM_CLASSES":
        return  # read through engine.checks.class_count_key
    assert re.search(rf"\.{name}\b", text), f"{key} is registered but never read"


KEY = r"([A-Z][A-Z0-9_]*(?:\.[A-Z][A-Z0-9_]*)*)\b"


def keys_read_in(text):
    """Keys read from `cfg`, and from what a name stands for: node = cfg.MODEL.X, then node.Y."""
    keys = set(re.findall(rf"\bcfg\.{KEY}", text))
    for name, prefix in set(re.findall(rf"\b(\w+) = cfg\.{KEY}$", text, flags=re.MULTILINE)):
        keys |= {f"{prefix}.{key}" for key in re.findall(rf"\b{name}\.{KEY}", text)}
    return keys


def test_keys_are_seen_through_a_name_for_their_node():
    text = "node = cfg.MODEL.A\nprint(node.B or node.c, cfg.TEST.E_2.clone())\nf(node.C.D)"
    assert keys_read_in(text) == {"MODEL.A", "MODEL.A.B", "MODEL.A.C.D", "TEST.E_2"}
    plugin = (ROOT / "projects/EmbeddingInstanceSeg/embedding_instance_seg/build.py").read_text()
    assert "MODEL.EMBEDDING_INSTANCE_SEG.CLUSTERING" in keys_read_in(plugin)


def test_every_key_that_is_read_is_registered():
    known = flatten(get_cfg_with_plugins())
    for folder in ADDED_KEYS_ARE_READ_IN:
        for file in folder.rglob("*.py"):
            for key in keys_read_in(file.read_text()):
                assert any(k == key or k.startswith(f"{key}.") for k in known), (file.name, key)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("MODEL:\n  RECURENT: 1\n", "RECURENT"),
        ("MODEL: [\n", "own.yaml"),
        ("SOLVER:\n  MAX_ITER: 'many'\n", "MAX_ITER"),
        ("OUTPUT_DIR: !!python/object/apply:os.system ['true']\n", "python/object"),
    ],
)
def test_a_config_that_cannot_be_used_is_a_sentence(tmp_path, text, word):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=word):
        load_cfg(tmp_path / "own.yaml")


def test_absent_config_file():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_cfg("nowhere.yaml")
