"""Settings that are tried on what the network gave, against models that are built with them."""

import pytest
import torch
from detectron2.data import DatasetCatalog

from instance_seg_analysis.limits.adapters import DETECTIONS, SUPPRESSION
from instance_seg_analysis.methods import adapt
from instance_seg_analysis.methods.mask_rcnn import MaskRCNNAdapter
from instance_seg_common.data.mapper import build_test_mapper
from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.setup import load_cfg

CONFIGS = {name: f"{name}_R18_shapes" for name in ("mask_rcnn", "embedding", "recurrent")}
CONFIGS["classical"] = "classical_shapes"
# Random weights are sure of nothing.
OPTS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.0"]
OPTS += ["MODEL.RPN.POST_NMS_TOPK_TEST", "30", "TEST.DETECTIONS_PER_IMAGE", "20"]


@pytest.fixture
def config(repository_root):
    """config(method) -> file."""
    return lambda method: str(repository_root / "configs" / "Synthetic" / f"{CONFIGS[method]}.yaml")


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
        {MaskRCNNAdapter.NMS: 0.2},
        {MaskRCNNAdapter.NMS: 0.9},
        {MaskRCNNAdapter.PROPOSALS: 7},
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


@pytest.mark.parametrize("method", SETTINGS)
@torch.no_grad()
def test_settings_give_what_the_model_would(tiny_cfg, config, method):
    cfg = load_cfg(config(method), OPTS)
    record = DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])[0]
    item = build_test_mapper(cfg)(record)
    tried = adapt(cfg, built(cfg))
    state = tried.run(item)
    for setting in SETTINGS[method]:
        changed = cfg.clone()
        changed.merge_from_list([x for pair in setting.items() for x in pair])
        assert_same(tried.predict(state, setting), built(changed)([item])[0]["instances"])
    assert_same(tried.predict(state, {}), built(cfg)([item])[0]["instances"])


@torch.no_grad()
def test_rules_against_duplicates(tiny_cfg, config):
    cfg = load_cfg(config("mask_rcnn"), OPTS)
    item = build_test_mapper(cfg)(DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])[0])
    adapter = adapt(cfg, built(cfg))
    state = adapter.run(item)
    everything, masks, soft = (
        adapter.predict(state, {SUPPRESSION: rule}) for rule in ("no NMS", "mask NMS", "soft-NMS")
    )
    assert len(everything) == len(state.candidates) > 20
    assert 0 < len(masks) <= 20 and len(soft) == 20
    assert soft.scores[0] == everything.scores.max() and soft.scores[-1] < everything.scores[19]
    assert torch.isin(masks.key, everything.key).all()
