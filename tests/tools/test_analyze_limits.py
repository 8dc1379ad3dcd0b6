"""The tool of the limits on tiny models, and its short cuts against models run anew."""

import json

import analyze_limits
import pytest
import torch
from detectron2.data import DatasetCatalog

from instance_seg_analysis.limits.adapters import DETECTIONS, SUPPRESSION, MaskRCNNWay, adapt
from instance_seg_common.data.loader import build_test_mapper
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.engine.trainer import build_model_quietly
from instance_seg_common.errors import UserError

LEAVES = {name: f"{name}_R18_shapes" for name in ("mask_rcnn", "embedding", "recurrent")}
LEAVES["classical"] = "classical_shapes"
# Random weights are sure of nothing.
OPTS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.0"]
OPTS += ["MODEL.RPN.POST_NMS_TOPK_TEST", "30", "TEST.DETECTIONS_PER_IMAGE", "20"]


@pytest.fixture
def leaf(repository_root):
    """leaf(way) -> file."""
    return lambda way: str(repository_root / "configs" / "Synthetic" / f"{LEAVES[way]}.yaml")


def built(cfg, seed=3):
    torch.manual_seed(seed)
    return build_model_quietly(cfg.clone()).eval()


def assert_same(found, expected):
    assert len(found) == len(expected)
    order, wanted = (x.scores.argsort(descending=True, stable=True) for x in (found, expected))
    assert torch.allclose(found.scores[order], expected.scores[wanted], atol=1e-5)
    areas, wanted_areas = (x.pred_masks.flatten(1).sum(1).sort()[0] for x in (found, expected))
    assert torch.equal(areas, wanted_areas)


SETTINGS = {
    "mask_rcnn": [
        {},
        {MaskRCNNWay.NMS: 0.2},
        {MaskRCNNWay.NMS: 0.9},
        {MaskRCNNWay.PROPOSALS: 7},
        {DETECTIONS: 3},
    ],
    "embedding": [{}, {"MODEL.EMBEDDING_INSTANCE_SEG.BANDWIDTH": 0.3}, {DETECTIONS: 2}],
    "recurrent": [
        {},
        {"MODEL.RECURRENT_INSTANCE_SEG.STOP_THRESHOLD": 0.1},
        {"MODEL.RECURRENT_INSTANCE_SEG.STOP_THRESHOLD": 0.9},
        {"MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS": 2},
        {DETECTIONS: 1},
    ],
    "classical": [{}],
}


@pytest.mark.parametrize("way", SETTINGS)
@torch.no_grad()
def test_settings_give_what_the_model_would(tiny_cfg, leaf, way):
    cfg = load_cfg(leaf(way), OPTS)
    record = DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])[0]
    item = build_test_mapper(cfg)(record)
    tried = adapt(cfg, built(cfg))
    state = tried.run(item)
    for setting in SETTINGS[way]:
        changed = cfg.clone()
        changed.merge_from_list([x for pair in setting.items() for x in pair])
        assert_same(tried.predict(state, setting), built(changed)([item])[0]["instances"])
    assert_same(tried.predict(state, {}), built(cfg)([item])[0]["instances"])


@torch.no_grad()
def test_rules_against_duplicates(tiny_cfg, leaf):
    cfg = load_cfg(leaf("mask_rcnn"), OPTS)
    item = build_test_mapper(cfg)(DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])[0])
    way = adapt(cfg, built(cfg))
    state = way.run(item)
    everything, masks, soft = (
        way.predict(state, {SUPPRESSION: rule}) for rule in ("no NMS", "mask NMS", "soft-NMS")
    )
    assert len(everything) == len(state["candidates"]) > 20
    assert 0 < len(masks) <= 20 and len(soft) == 20
    assert soft.scores[0] == everything.scores.max() and soft.scores[-1] < everything.scores[19]
    assert torch.isin(masks.key, everything.key).all()


def test_analyze_limits(tiny_cfg, leaf, tmp_path, capsys):
    folder = tmp_path / "new" / "out"
    configs = [leaf(way) for way in ("mask_rcnn", "embedding", "recurrent", "classical")]
    weights = []
    for way, config in zip(LEAVES, configs):
        cfg = load_cfg(config, OPTS)
        weights.append(str(tmp_path / f"{way}.pth") if cfg.MODEL.META_ARCHITECTURE else "")
        torch.save({"model": built(cfg).state_dict()}, weights[-1])
    weights[-1] = ""
    name = tiny_cfg.DATASETS.TEST[0]
    arguments = ["--configs", *configs, "--weights", *weights, "--dataset", name]
    arguments += ["--max-images", "3", "--output", str(folder), "--opts", *OPTS]
    analyze_limits.main(arguments)
    result = json.loads((folder / "limits.json").read_text())
    assert result["images"] == 3 and list(result["ways"]) == list(LEAVES.values())
    ways = [result["ways"][LEAVES[way]] for way in LEAVES]
    assert [len(way["neighbours"]) for way in ways] == [4, 1, 1, 1]
    assert [len(way["capacity"]) for way in ways] == [1, 1, 1, 0]
    assert len(ways[0]["sweep"]["AP"]["all"]) == 9 and ways[3]["sweep"] is None
    assert ways[1]["claims"]["twice"] == 0 and ways[0]["claims"]["twice"] > 0
    assert all((folder / f"limit{n}.png") for n in range(1, 5))
    assert len(list(folder.glob("limit*.png"))) == 4
    printed = capsys.readouterr().out
    assert all(f"- Limit {n} (" in printed for n in range(1, 5))
    assert "OtsuWatershed has no knob to sweep" in printed


def test_weights_are_read_before_anything_is_measured(tiny_cfg, leaf, tmp_path, monkeypatch):
    good, broken = tmp_path / "good.pth", tmp_path / "broken.pth"
    torch.save({"model": built(load_cfg(leaf("mask_rcnn"), OPTS)).state_dict()}, good)
    broken.write_bytes(good.read_bytes()[:1000])
    monkeypatch.setattr(analyze_limits.limits, "measure_way", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match="broken.pth"):
        analyze_limits.main([
            "--configs", leaf("mask_rcnn"), leaf("embedding"), "--weights", str(good), str(broken),
            "--dataset", tiny_cfg.DATASETS.TEST[0], "--output", str(tmp_path), "--opts", *OPTS,
        ])  # fmt: skip


def test_wrong_arguments(leaf):
    with pytest.raises(UserError, match="--max-images is 0"):
        analyze_limits.main(["--configs", "a", "--weights", "b", "--max-images", "0"])
    with pytest.raises(UserError, match="2 configs and 1 weights"):
        analyze_limits.main(["--configs", "a", "b", "--weights", "c"])
