"""tools/analyze.py oracle, neighbours and pooling, on small data with models of a few lines."""

import json
import logging

import analyze
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import Boxes, Instances
from tiny_embedding import settings_of

from embedding_instance_seg.grouping import Grouping, group_pixels
from embedding_instance_seg.maps import Maps
from instance_seg_common.engine.setup import common_test_set, load_cfg, load_models
from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_from_masks

TINY_CONFIG = """
_BASE_: {root}/configs/Base-InstanceSeg.yaml
MODEL: {{META_ARCHITECTURE: {architecture}, DEVICE: cpu, WEIGHTS: ""}}
INPUT: {{MIN_SIZE_TEST: 64}}
DATASETS: {{TEST: ["{dataset}"]}}
"""


class TruthTeller(torch.nn.Module):
    """Groups the truth where it is given semantics and centres, and one pixel elsewhere."""

    inference = settings_of()

    def __init__(self, cfg):
        super().__init__()

    def forward(self, batched_inputs):
        results = []
        for item in batched_inputs:
            size = (item["height"], item["width"])
            instances = self.make_instances(self.group(Maps(*[torch.zeros(1, *size)] * 5, 1)), size)
            results.append({"instances": instances})
        return results

    def image_maps(self, batched_inputs):
        """Every object at a place of its own in the embedding, and no semantics."""
        (item,) = batched_inputs
        masks = item["instances"].gt_masks.tensor
        numbers = torch.arange(1.0, len(masks) + 1)[:, None, None]
        embedding = (masks * numbers).sum(dim=0, keepdim=True)
        nothing = torch.zeros(5, *embedding.shape[1:])
        return [Maps(nothing, embedding, embedding, None, None, stride=1)]

    def group(self, maps, truth=None):
        if truth is not None and maps.probabilities.any():
            return group_pixels(maps, self.inference, truth)
        labels = torch.zeros(maps.embedding_full.shape[1:], dtype=torch.int64)
        labels[0, 0] = 1
        return Grouping(labels, torch.zeros(1, 1), torch.zeros(1).long(), torch.ones(1))

    def make_instances(self, grouping, output_size):
        masks = grouping.labels == torch.arange(1, len(grouping.scores) + 1)[:, None, None]
        return instances_from_masks(
            masks, grouping.scores, 0 * grouping.classes,
            input_size=grouping.labels.shape, output_size=output_size,
        )  # fmt: skip


class NoTruth(torch.nn.Module):
    """A model without steps in which the truth can take part."""

    def __init__(self, cfg):
        super().__init__()

    def forward(self, batched_inputs):
        size = (batched_inputs[0]["height"], batched_inputs[0]["width"])
        nothing = Instances(size, pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
        return [{"instances": nothing}]


for kind in (TruthTeller, NoTruth):
    if kind.__name__ not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(kind)


@pytest.fixture
def write_config(tiny_cfg, repository_root, tmp_path):
    """write_config(architecture, stem=architecture, dataset=the tiny set) -> file."""

    def write(architecture, stem=None, dataset=tiny_cfg.DATASETS.TEST[0]):
        path = tmp_path / f"{stem or architecture}.yaml"
        text = TINY_CONFIG.format(root=repository_root, architecture=architecture, dataset=dataset)
        path.write_text(text)
        return str(path)

    return write


def named(config):
    """As --model names a model without weights."""
    return ["--model", f"{config}:"]


def test_oracle(write_config, tmp_path, capsys):
    path = tmp_path / "new" / "oracle.json"
    arguments = ["oracle", *named(write_config("TruthTeller")), "--json", str(path)]
    analyze.main([*arguments, "--max-images", "3"])
    result = json.loads(path.read_text())
    assert result["images"] == 3 and len(result["rows"]) == 4
    accuracies = [row["figures"]["accuracy@0.5"] for row in result["rows"]]
    assert accuracies == [0, 0, 0, 1] and result["rows"][3]["true_centers"]
    assert "| true        | true      |" in capsys.readouterr().out


def test_oracle_needs_a_method_that_takes_the_truth(write_config):
    with pytest.raises(UserError, match="NoTruth: it has no image_maps"):
        analyze.main(["oracle", *named(write_config("NoTruth"))])
    with pytest.raises(UserError, match="--max-images is 0"):
        analyze.main(["oracle", "--model", "a.yaml", "--max-images", "0"])


def test_neighbours(write_config, tmp_path, capsys):
    weights = tmp_path / "empty.pth"
    torch.save({"model": {}}, weights)
    nothing, truth = write_config("NoTruth"), write_config("TruthTeller")
    models = [*named(nothing), *named(truth), "--model", f"{nothing}:{weights}"]
    arguments = ["neighbours", *models, "--nms-thresholds", "0.9"]
    analyze.main([*arguments, "--output", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out" / "neighbours.json").read_text())
    names = ["NoTruth (no weights)", "TruthTeller", f"NoTruth ({weights})"]
    assert [entry["model"] for entry in result["models"]] == names
    assert [entry["predictions"] for entry in result["models"]] == [0, 8, 0]
    assert (tmp_path / "out" / "neighbours.png").stat().st_size > 5000
    assert "8 images" in capsys.readouterr().out


def test_each_nms_threshold_is_a_model(repository_root):
    config = repository_root / "configs" / "Synthetic" / "mask_rcnn_R18_shapes.yaml"
    cfgs = load_models([f"{config}:a.pth"])
    assert common_test_set(cfgs.values()) == "synthetic_shapes_val"
    models = analyze.neighbours.with_nms_thresholds(cfgs, [0.7, 0.9])
    thresholds = {name: cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST for name, cfg in models.items()}
    name = "mask_rcnn_R18_shapes"
    assert thresholds == {name: 0.5, f"{name}, NMS 0.7": 0.7, f"{name}, NMS 0.9": 0.9}
    assert {cfg.MODEL.WEIGHTS for cfg in models.values()} == {"a.pth"}


def test_data_set_and_keys_of_all_models(write_config, tiny_cfg, tmp_path):
    configs = [write_config("NoTruth"), write_config("TruthTeller", "b", "synthetic_shapes_val")]
    models = [part for config in configs for part in named(config)]
    name = tiny_cfg.DATASETS.TEST[0]
    arguments = ["neighbours", *models, "--dataset", name, "--output", str(tmp_path)]
    analyze.main([*arguments, "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.25"])
    result = json.loads((tmp_path / "neighbours.json").read_text())
    assert result["dataset"] == name and len(result["models"]) == 2
    assert {entry["score_threshold"] for entry in result["models"]} == {0.25}


@pytest.fixture
def logged(monkeypatch, caplog):
    """What the tools log. Their logger keeps the handlers of the tests before, whose streams are
    closed, and hands nothing to the root: for this test it has the handler of pytest alone."""
    monkeypatch.setattr(logging.getLogger("instance_seg_common"), "handlers", [caplog.handler])
    return caplog


@pytest.mark.parametrize("thresholds", [[], ["0.9"]])
@pytest.mark.parametrize("on_test_set", [True, False])
def test_nms_thresholds_are_not_chosen_on_the_test_set(
    write_config, tiny_cfg, tmp_path, monkeypatch, logged, on_test_set, thresholds
):
    monkeypatch.setattr(analyze.neighbours, "has_nms", lambda cfg: True)
    name = tiny_cfg.DATASETS.TEST[0]
    config = write_config("NoTruth", "a", name if on_test_set else "synthetic_shapes_val")
    sweep = ["--nms-thresholds", *thresholds] if thresholds else []
    arguments = ["neighbours", *named(config), "--dataset", name, *sweep]
    analyze.main([*arguments, "--output", str(tmp_path)])
    warned = "an NMS threshold chosen on it flatters" in logged.text
    assert warned == bool(on_test_set and thresholds)


def test_models_are_compared_on_one_data_set(write_config):
    configs = [write_config("NoTruth"), write_config("NoTruth", "other", "synthetic_shapes_val")]
    models = [part for config in configs for part in named(config)]
    with pytest.raises(UserError, match="different data sets.*--dataset"):
        analyze.main(["neighbours", *models])


POOLING = [
    *("MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.05"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "30", "TEST.DETECTIONS_PER_IMAGE", "10"),
]


def test_pooling(tiny_cfg, repository_root, tmp_path, capsys):
    config = str(repository_root / "configs" / "Synthetic" / "mask_rcnn_R18_shapes.yaml")
    torch.manual_seed(0)
    weights = tmp_path / "model.pth"
    torch.save({"model": build_model(load_cfg(config, POOLING)).state_dict()}, weights)
    model, dataset = f"{config}:{weights}", tiny_cfg.DATASETS.TEST[0]
    arguments = ["pooling", "--align", model, "--pool", model, "--dataset", dataset]
    analyze.main([*arguments, "--output", str(tmp_path / "out"), *POOLING])
    results = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert results["models"]["RoIAlign"] == results["models"]["RoIPool"]
    assert set(results["models"]["RoIAlign"]) == set(analyze.pooling.FIGURES)
    assert results["offset_pixels"]["ROIPool"]["std"] > 1
    assert "segm AP75" in capsys.readouterr().out


def test_pooling_needs_both_models():
    with pytest.raises(UserError, match="both"):
        analyze.main(["pooling", "--align", "a.yaml:a.pth"])
