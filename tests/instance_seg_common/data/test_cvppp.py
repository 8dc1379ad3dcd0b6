"""CVPPP's leaf challenge: pairs of files, folds, and a sentence for what is wrong with them."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import voc_cvppp_trees as trees
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from instance_seg_common.data import register_builtin_datasets
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.cvppp import FOLDS, SUBSETS
from instance_seg_common.data.label_images import read_foreground
from instance_seg_common.data.selection import Fold
from instance_seg_common.errors import UserError

FIRST_OF_FOLD_0 = ["plant001", "plant003", "plant006", "plant011"]  # of A1's 128 images


def use(root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(root.parent / "cache"))
    register_builtin_datasets()


@pytest.fixture
def plants(tmp_path, monkeypatch):
    """The folder A1 with ten plants; the named sets are those of its root."""
    folder = trees.write_cvppp(tmp_path / "sets")
    use(tmp_path / "sets", monkeypatch)
    return folder


def stems(name):
    return [record["image_id"] for record in DatasetCatalog.get(name)]


def test_leaves_and_the_supplied_foreground(plants):
    records = DatasetCatalog.get("cvppp_A1")
    assert [record["image_id"] for record in records] == [f"plant{n:03d}" for n in range(1, 11)]
    for number, record in enumerate(records, start=1):
        labels = trees.leaves(number)
        masks = [mask_util.decode(a["segmentation"]) for a in record["annotations"]]
        assert np.array_equal(sum(k * m for k, m in enumerate(masks, start=1)), labels)
        foreground = read_foreground(record["foreground_file_name"], trees.SIZE)
        assert np.array_equal(foreground, labels > 0)
    assert MetadataCatalog.get("cvppp_A1").thing_classes == ["leaf"]


@pytest.mark.parametrize(
    "folder",
    ["cvppp/CVPPP2017_LSC_training/training/A2", "CVPPP2017_LSC_training/training/A2", "cvppp/A2"],
)
def test_the_layout_of_2017_and_the_plain_one(tmp_path, monkeypatch, folder):
    trees.write_cvppp(tmp_path / "sets", folder, count=5)
    use(tmp_path / "sets", monkeypatch)
    assert len(stems("cvppp_A2")) == 5
    assert check_dataset("cvppp_A2").ok


def test_every_image_is_held_out_once(plants):
    everything = stems("cvppp_A1")
    held_out = []
    for k in range(FOLDS):
        train, val = stems(f"cvppp_A1_fold{k}_train"), stems(f"cvppp_A1_fold{k}_val")
        assert sorted(train + val) == everything
        assert len(val) == 2
        held_out += val
    assert sorted(held_out) == everything


def test_folds_are_drawn_by_the_seed_and_never_change():
    names = [f"plant{number:03d}" for number in range(1, 129)]
    folds = [Fold(k, 5, True).stems(names, None) for k in range(5)]
    assert [len(fold) for fold in folds] == [26, 26, 26, 25, 25]
    assert folds[0] == Fold(0, 5, True).stems(reversed(names), None)
    assert folds[0] != Fold(0, 5, True, seed=1).stems(names, None)
    # A model trained on a fold is judged on the same images for ever.
    assert folds[0][:4] == FIRST_OF_FOLD_0
    numbers = np.array([int(name[5:]) for fold in folds for name in fold])
    assert not np.array_equal(numbers, np.sort(numbers))


def test_all_names_are_registered(plants):
    for subset in SUBSETS:
        assert f"cvppp_{subset}" in DatasetCatalog.list()
        for k in range(FOLDS):
            assert f"cvppp_{subset}_fold{k}_val" in DatasetCatalog.list()
    with pytest.raises(UserError, match=r"cvppp/A4 does not exist.*contains cvppp/ or CVPPP2017"):
        DatasetCatalog.get("cvppp_A4_fold1_train")


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


BREAKAGES = {
    "label": (lambda f: (f / "plant003_label.png").unlink(), "label missing", ["'plant003'"]),
    "foreground": (
        lambda f: (f / "plant003_fg.png").unlink(), "foreground unusable", ["foreground", "add it"]
    ),
    "size": (
        lambda f: Image.new("L", (9, 9)).save(f / "plant003_fg.png"),
        "foreground unusable",
        ["plant003_fg.png is 9x9", "64x48"],
    ),
    "png": (lambda f: cut(f / "plant003_label.png"), "label unusable", ["plant003_label.png"]),
    "image": (lambda f: cut(f / "plant003_rgb.png"), "image unreadable", ["plant003_rgb.png"]),
    "colours": (
        lambda f: Image.new("RGB", (64, 48), (1, 2, 3)).save(f / "plant003_label.png"),
        "label unusable",
        ["3 channels"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", BREAKAGES)
def test_what_is_wrong_is_a_sentence_before_training_and_in_the_check(plants, key):
    breakage, kind, words = BREAKAGES[key]
    breakage(plants)
    report = check_dataset("cvppp_A1")
    found = " ".join(f.sentence for f in report.errors if f.kind == kind)
    assert found, report.text()
    try:
        DatasetCatalog.get("cvppp_A1")
        raised = found if key == "image" else ""  # a cut image has a header
    except UserError as error:
        raised = str(error)
    for word in words:
        assert word in raised
        assert word in found


def test_a_damaged_foreground_is_a_sentence(plants):
    path = plants / "plant003_fg.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"plant003_fg\.png cannot be read"):
        read_foreground(path, trees.SIZE)
    assert "foreground unusable" in [f.kind for f in check_dataset("cvppp_A1").errors]


def test_a_half_downloaded_set_is_a_sentence(plants):
    for number in range(2, 11):
        (plants / f"plant{number:03d}_label.png").unlink()
    with pytest.raises(UserError, match="incomplete: 9 of the 10 images"):
        DatasetCatalog.get("cvppp_A1")
    for path in plants.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no image \*_rgb"):
        DatasetCatalog.get("cvppp_A1_fold0_val")
