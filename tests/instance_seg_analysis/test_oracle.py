import numpy as np
import pytest
import torch
from square_sets import make_record

from instance_seg_analysis.oracle import ROWS, ablate_oracle, oracle_table
from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_from_masks


class Model(torch.nn.Module):
    """Its own semantics miss the last object, its own clusters merge the first two."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def predict(self, batched_inputs, true_semantics=False, true_centers=False):
        assert not torch.is_grad_enabled()
        self.seen.append((batched_inputs[0]["image_id"], true_semantics, true_centers))
        return [{"instances": self._one(x, true_semantics, true_centers)} for x in batched_inputs]

    def _one(self, item, true_semantics, true_centers):
        masks = item["instances"].gt_masks.tensor
        assert masks.shape[1:] == item["image"].shape[1:]
        if not true_centers:
            masks = torch.cat([masks[:1] | masks[1:2], masks[2:]])
        if not true_semantics:
            masks = masks[:-1]
        size = (item["height"], item["width"])
        scores = torch.ones(len(masks))
        return instances_from_masks(
            masks.float(),
            scores,
            torch.zeros(len(masks)),
            input_size=masks.shape[1:],
            output_size=size,
        )


def squares(number):
    """(5, 64, 64) bool: squares of one size, moved a little from image to image."""
    masks = np.zeros((5, 64, 64), dtype=bool)
    for index, (y, x) in enumerate([(2, 2), (2, 34), (22, 2), (22, 34), (44, 20)]):
        masks[index, y : y + 12, x + number : x + number + 12] = True
    return masks


@pytest.fixture
def dataset(tiny_cfg, register_variant):
    """The tiny set's four first images with five squares each."""

    def change(dicts):
        records = [make_record(d["image_id"], squares(n)) for n, d in enumerate(dicts[:4])]
        return [{**r, "file_name": d["file_name"]} for r, d in zip(records, dicts)]

    return register_variant("test_oracle_squares", change, thing_classes=["object"])


@pytest.mark.parametrize("size", [64, 128])
def test_each_truth_mends_what_it_is_the_truth_of(tiny_cfg, dataset, size):
    tiny_cfg.INPUT.MIN_SIZE_TEST = size
    model = Model()
    rows, images = ablate_oracle(tiny_cfg, model, dataset)
    assert images == 4 and [row[:2] for row in rows] == list(ROWS)
    assert {seen[1:] for seen in model.seen} == set(ROWS)
    nothing, centers, semantics, both = (row.figures for row in rows)
    assert both["AP"] == pytest.approx(100) and both["AP50"] == pytest.approx(100)
    assert both["accuracy@0.5"] == both["SBD"] == 1 and both["DiC"] == 0
    # Own semantics: 4 of 5 objects. Own clusters: the pair, whose IoU with one is 0.5, is matched.
    assert centers["accuracy@0.5"] == pytest.approx(4 / 5) and centers["DiC"] == 1
    assert semantics["accuracy@0.5"] == pytest.approx(4 / 5) and semantics["DiC"] == 1
    assert nothing["accuracy@0.5"] == pytest.approx(3 / 5) and nothing["DiC"] == 2
    assert nothing["SBD"] < centers["SBD"] < both["SBD"]
    assert nothing["AP"] < centers["AP"] < both["AP"]


def test_figures_of_some_images_are_of_those_alone(tiny_cfg, dataset):
    model = Model()
    rows, images = ablate_oracle(tiny_cfg, model, dataset, max_images=2)
    assert images == 2 and len({image for image, *_ in model.seen}) == 2
    assert rows[-1].figures["AP"] == pytest.approx(100)
    assert rows[-1].figures["accuracy@0.5"] == 1


def test_table(tiny_cfg, dataset, capsys):
    rows, _ = ablate_oracle(tiny_cfg, Model(), dataset, max_images=1)
    assert capsys.readouterr().out == ""
    lines = oracle_table(rows).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][-1] == "DiC" and [c[:2] for c in cells[2:]] == [
        ["own", "own"], ["own", "true"], ["true", "own"], ["true", "true"]
    ]  # fmt: skip
    assert cells[-1][2:] == ["100.0", "100.0", "1.000", "1.000", "0.00"]


def test_other_architectures_are_refused(tiny_cfg, dataset):
    class WithoutTruth(torch.nn.Module):
        def predict(self, batched_inputs):
            return []

    for model in (torch.nn.Identity(), WithoutTruth()):
        with pytest.raises(UserError, match=f"{type(model).__name__}: it has no predict"):
            ablate_oracle(tiny_cfg, model, dataset)
