"""Pascal VOC 2012 and SBD: which images, which masks, and a sentence for what is wrong."""

import shutil

import numpy as np
import pycocotools.mask as mask_util
import pytest
import voc_cvppp_trees as trees
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from PIL import Image
from scipy.io import savemat

from instance_seg_common.data import annotation_cache, register_builtin_datasets, voc
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.voc import CLASS_NAMES
from instance_seg_common.errors import UserError

SETS = ("voc_2012_instance_train", "voc_2012_instance_val", "voc_sbd_train", "voc_sbd_val")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with VOC 2012 and SBD; the named sets are those below it."""
    root = tmp_path / "sets"
    trees.write_voc(root)
    trees.write_sbd(root)
    use(root, monkeypatch)
    return root


def use(root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(root.parent / "cache"))
    register_builtin_datasets()


def masks_of(record):
    return [mask_util.decode(a["segmentation"]).astype(bool) for a in record["annotations"]]


def stems(name):
    return [record["image_id"] for record in DatasetCatalog.get(name)]


def test_masks_and_classes_are_those_of_the_label_images(root):
    records = DatasetCatalog.get("voc_2012_instance_val")
    for number, record in enumerate(records, start=2):
        objects, _ = trees.voc_scene(number)
        for k, mask in enumerate(masks_of(record), start=1):
            assert np.array_equal(mask, objects == k)
        names = [CLASS_NAMES[a["category_id"]] for a in record["annotations"]]
        assert names == ["person", "car", "person"]
        assert (record["height"], record["width"]) == trees.SIZE
        assert record["file_name"].endswith(f"JPEGImages/{record['image_id']}.jpg")


def test_void_is_an_ignored_region_and_no_object(root):
    for number, record in enumerate(DatasetCatalog.get("voc_sbd_val"), start=2):
        void = trees.voc_scene(number)[0] == 255
        assert void.any()
        assert np.array_equal(np.array(Image.open(record["sem_seg_file_name"])) == 255, void)
        item = DatasetMapper(
            True, augmentations=[], image_format="BGR", use_instance_mask=True,
            instance_mask_format="bitmask",
        )(record)  # fmt: skip
        assert np.array_equal(item["sem_seg"].numpy() == 255, void)
        assert len(item["instances"]) == 3
        assert not (item["instances"].gt_masks.tensor.numpy() & void).any()


def test_the_lists_decide_and_the_merged_set_has_no_image_of_val(root):
    assert stems("voc_2012_instance_train") == list(trees.VOC_TRAIN)
    assert stems("voc_2012_instance_val") == stems("voc_sbd_val") == list(trees.VOC_VAL)
    assert stems("voc_sbd_train") == [*trees.VOC_TRAIN, "2008_000001", "2008_000002"]


def test_in_the_merged_set_labels_of_voc_come_before_those_of_sbd(root):
    merged = {record["image_id"]: record for record in DatasetCatalog.get("voc_sbd_train")}
    both = merged["2007_000001"]  # SBD has other objects for it
    assert "JPEGImages" in both["file_name"]
    assert [CLASS_NAMES[a["category_id"]] for a in both["annotations"]][:2] == ["person", "car"]
    ids, _ = trees.sbd_scene(3)  # the fourth of SBD's stems
    record = merged["2008_000001"]
    assert "benchmark_RELEASE/dataset/img" in record["file_name"]
    assert [CLASS_NAMES[a["category_id"]] for a in record["annotations"]] == ["aeroplane", "car"]
    for k, mask in enumerate(masks_of(record), start=1):
        assert np.array_equal(mask, ids == k)
    assert "sem_seg_file_name" not in record


def test_metadata(root):
    for name in SETS:
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == list(CLASS_NAMES)
        assert metadata.evaluator_type == "voc"
    assert CLASS_NAMES[trees.PERSON - 1] == "person"


def test_void_and_classes_without_pixels_in_sbd(root):
    path = root / "benchmark_RELEASE/dataset/inst/2008_000001.mat"
    ids, categories = trees.sbd_scene(3)
    ids[:3] = 255
    trees.write_mat(path, ids, np.concatenate([categories, [[trees.PERSON]]]))
    record = DatasetCatalog.get("voc_sbd_train")[2]
    assert len(record["annotations"]) == 2
    void = np.array(Image.open(record["sem_seg_file_name"])) == 255
    assert np.array_equal(void, ids == 255)


def test_an_object_whose_class_is_void_is_left_out_and_the_check_says_so(root):
    repaint(root / f"{CLASS}/{STEM}.png", trees.CAR, 255)
    record = DatasetCatalog.get("voc_2012_instance_train")[1]
    names = [CLASS_NAMES[a["category_id"]] for a in record["annotations"]]
    assert names == ["person", "person"]
    (error,) = check_dataset("voc_2012_instance_train").errors
    assert error.kind == "instance without class" and "instances 2 have" in error.sentence


def test_the_tree_without_vocdevkit_as_detectron2_has_it(tmp_path, monkeypatch):
    trees.write_voc(tmp_path / "sets", "VOC2012")
    use(tmp_path / "sets", monkeypatch)
    assert stems("voc_2012_instance_val") == list(trees.VOC_VAL)


def test_a_second_start_decodes_no_label(root, monkeypatch):
    first = DatasetCatalog.get("voc_sbd_train")

    def fail(*paths):
        raise AssertionError(f"decoded {paths}")

    monkeypatch.setattr(annotation_cache, "read_instances", fail)
    assert DatasetCatalog.get("voc_sbd_train") == first


def test_good_trees_pass_the_check(root):
    for name in SETS:
        report = check_dataset(name)
        assert report.ok, report.text()
    report = check_dataset("voc_sbd_train")
    assert report.instances_per_image == [3, 3, 2, 2]
    assert report.classes == {"person": 4, "car": 4, "aeroplane": 2}


VOC, SBD = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
OBJECT, CLASS = f"{VOC}/SegmentationObject", f"{VOC}/SegmentationClass"
LIST = f"{VOC}/ImageSets/Segmentation/train.txt"
STEM, SBD_STEM = "2007_000002", "2008_000002"
MAT = f"{SBD}/inst/{SBD_STEM}.mat"


def cut(path):
    path.write_bytes(path.read_bytes()[:90])


def repaint(path, old, new):
    array = np.array(Image.open(path))
    array[array == old] = new
    trees.save_with_palette(array, path)


def rewrite(path, change):
    ids, categories = trees.sbd_scene(0)
    trees.write_mat(path, *change(ids, categories))


def halve(folder):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()


def without_label(root):
    (root / f"{OBJECT}/{STEM}.png").unlink()
    (root / f"{CLASS}/{STEM}.png").unlink()


# What is done to good trees, the kind that the check finds, words of both sentences.
BREAKAGES = {
    "folder": (lambda r: shutil.rmtree(r / OBJECT), "folder missing", ["SegmentationObject"]),
    "sbd": (lambda r: shutil.rmtree(r / SBD), "folder missing", [f"contains {SBD}/"]),
    "list": (lambda r: (r / LIST).unlink(), "list unusable", [LIST, "does not exist"]),
    "flags": (
        lambda r: (r / LIST).write_text(f"{STEM}  1\n"), "list unusable", [f"'{STEM}  1'"]
    ),
    "empty": (lambda r: (r / LIST).write_text("\n"), "list unusable", [LIST, "no line"]),
    "binary": (
        lambda r: (r / LIST).write_bytes(b"\xff\xfe\x00"), "list unusable", ["cannot be read"]
    ),
    "image": (lambda r: (r / f"{VOC}/JPEGImages/{STEM}.jpg").unlink(), "image missing", [STEM]),
    "half": (lambda r: halve(r / f"{SBD}/img"), "image missing", [SBD_STEM]),
    "label": (without_label, "label missing", [STEM, "SegmentationObject"]),
    "class": (
        lambda r: (r / f"{CLASS}/{STEM}.png").unlink(), "class image missing", ["class image"]
    ),
    "no_mat": (lambda r: (r / MAT).unlink(), "label missing", [SBD_STEM, "inst"]),
    "png": (lambda r: cut(r / f"{OBJECT}/{STEM}.png"), "label unusable", [f"{STEM}.png"]),
    "class_png": (lambda r: cut(r / f"{CLASS}/{STEM}.png"), "label unusable", [f"{STEM}.png"]),
    "mat": (lambda r: cut(r / MAT), "label unusable", [f"{SBD_STEM}.mat", "unpack it again"]),
    "no_file": (lambda r: (r / MAT).write_bytes(b""), "label unusable", [f"{SBD_STEM}.mat"]),
    "cls": (
        lambda r: savemat(r / MAT, {"GTcls": {"Segmentation": np.ones((3, 4))}}),
        "label unusable",
        ["GTinst", "not of cls"],
    ),
    "text": (
        lambda r: savemat(r / MAT, {"GTinst": {"Segmentation": "x", "Categories": "y"}}),
        "label unusable",
        ["Segmentation (H, W)"],
    ),
    "classless": (
        lambda r: rewrite(r / MAT, lambda ids, c: (ids, c[:1])),
        "label unusable",
        ["no class for the instance 2", "[1]"],
    ),
    "below": (
        lambda r: rewrite(r / MAT, lambda ids, c: (ids, c * 0)),
        "label unusable",
        ["a class below 1"],
    ),
    "beyond": (
        lambda r: rewrite(r / MAT, lambda ids, c: (ids, c + 14)),
        "class out of range",
        ["21", "20 classes"],
    ),
    "value": (
        lambda r: repaint(r / f"{CLASS}/{STEM}.png", trees.CAR, 33),
        "class out of range",
        ["33", "20 classes"],
    ),
    "size": (
        lambda r: rewrite(r / MAT, lambda ids, c: (ids[1:], c)), "sizes differ", ["64x47"]
    ),
    "class_size": (
        lambda r: trees.save_with_palette(np.zeros((9, 9)), r / f"{CLASS}/{STEM}.png"),
        "sizes differ",
        ["9x9", "64x48"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", BREAKAGES)
def test_what_is_wrong_is_a_sentence_before_training_and_in_the_check(root, key):
    breakage, kind, words = BREAKAGES[key]
    breakage(root)
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get("voc_sbd_train")
    report = check_dataset("voc_sbd_train")
    found = " ".join(f.sentence for f in report.errors if f.kind == kind)
    assert found, report.text()
    for word in words:
        assert word in str(caught.value)
        assert word in found


def test_a_wrong_root_names_what_it_should_contain(root, monkeypatch):
    use(root / "VOCdevkit", monkeypatch)  # one folder too deep, which is allowed
    assert len(stems("voc_2012_instance_val")) == 2
    use(root / VOC, monkeypatch)
    with pytest.raises(UserError, match=r"JPEGImages does not exist.*contains VOCdevkit/VOC2012/"):
        DatasetCatalog.get("voc_2012_instance_val")


def test_an_image_in_two_parts_is_refused(root, monkeypatch):
    monkeypatch.setattr(voc, "load_label_maps", lambda part: [{"image_id": "a"}])
    with pytest.raises(UserError, match="1 images are in two of its parts"):
        DatasetCatalog.get("voc_sbd_train")
