"""Folders of images and of label maps become annotations."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.transforms import NoOpTransform
from PIL import Image

from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.image_header import EXIF_ORIENTATION
from instance_seg_common.errors import UserError


def load(name, folders, **options):
    register_label_map_dataset(name, folders.root / "images", folders.root / "labels", **options)
    return DatasetCatalog.get(name)


def masks_of(record):
    return [mask_util.decode(a["segmentation"]).astype(bool) for a in record["annotations"]]


def test_masks_boxes_and_gappy_ids(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    (record,) = load(fresh_name, folders)
    assert (record["height"], record["width"], record["image_id"]) == (20, 30, "a")
    for mask, instance_id in zip(masks_of(record), (7, 1000)):
        assert np.array_equal(mask, two_squares == instance_id)
    assert [a["bbox"] for a in record["annotations"]] == [[2, 3, 4, 4], [10, 8, 5, 6]]
    assert {a["category_id"] for a in record["annotations"]} == {0}


@pytest.mark.parametrize(
    ("dtype", "ending"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif")]
)
def test_more_than_255_instances(fresh_name, folders, dtype, ending):
    labels = np.arange(1, 401, dtype=dtype).reshape(20, 20) * 5
    folders.write("images", np.zeros((20, 20, 3), np.uint8), "a.jpg")
    folders.write("labels", labels, f"a.{ending}")
    (record,) = load(fresh_name, folders)
    assert len(record["annotations"]) == 400
    assert masks_of(record)[-1].nonzero() == (19, 19)


def test_image_without_instances_stays(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    folders.add("b", np.zeros((8, 8), np.uint8))
    assert [len(r["annotations"]) for r in load(fresh_name, folders)] == [2, 0]


def test_classes_of_a_class_folder_by_majority(fresh_name, folders, two_squares):
    classes = np.zeros(two_squares.shape, np.uint8)
    classes[two_squares == 7] = 1
    classes[3, 2:6] = 2
    classes[two_squares == 1000] = 2
    classes[8, 10:15] = 1
    folders.add("a", two_squares, classes)
    options = {"thing_classes": ("x", "y"), "class_dir": folders.root / "classes"}
    (record,) = load(fresh_name, folders, **options)
    assert [a["category_id"] for a in record["annotations"]] == [0, 1]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (1000, [0]),
        ({"classes": {7: 1}}, [1]),
        ({"divisor": 1000, "classes": {0: "y", 1: "x"}}, [1, 0]),
        ({"classes": {1000: 1}}, [1]),
    ],
)
def test_classes_of_the_id(fresh_name, folders, two_squares, rule, expected):
    folders.add("a", two_squares)
    (record,) = load(fresh_name, folders, thing_classes=("x", "y"), class_of_id=rule)
    assert [a["category_id"] for a in record["annotations"]] == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thing_classes": ("x", "y")}, "2 classes but nothing says"),
        ({"thing_classes": "cell"}, "list of names"),
        ({"class_dir": "c", "class_of_id": 10}, "both class_dir and class_of_id"),
        ({"class_of_id": 0}, "divisor"),
        ({"class_of_id": len}, "divisor.*not <built-in function len>.*a table"),
        ({"class_of_id": {"divisor": 10}}, "'classes'"),
        ({"class_of_id": {"classes": {1: "dog"}}}, "'dog'"),
        ({"class_of_id": {"classes": {"car": 0}}}, "'car'.*whole number"),
        ({"class_of_id": {"classes": {2.5: 0}}}, "2.5.*whole number"),
        ({"class_of_id": {"classes": {None: 0}}}, "None.*whole number"),
        ({"class_of_id": {"classes": {"1": 0, 1: 0}}}, "1 twice"),
    ],
)
def test_parameters_that_contradict(fresh_name, folders, options, words):
    with pytest.raises(UserError, match=words):
        load(fresh_name, folders, **options)


def test_class_of_id_beyond_the_classes(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    with pytest.raises(UserError, match=r"a\.png, instance 1000 gets class 6, .* 2 classes: x, y"):
        load(fresh_name, folders, thing_classes=("x", "y"), class_of_id=166)


def test_suffixes_pair_files_of_one_folder(fresh_name, folders, two_squares):
    folders.write("images", np.zeros((20, 30, 3), np.uint8), "plant1_rgb.png")
    folders.write("images", two_squares, "plant1_label.png")
    folder = folders.root / "images"
    register_label_map_dataset(
        fresh_name, folder, folder, image_suffix="_rgb", label_suffix="_label"
    )
    (record,) = DatasetCatalog.get(fresh_name)
    assert record["image_id"] == "plant1"
    assert len(record["annotations"]) == 2


def test_exif_orientation_is_applied_to_the_size(fresh_name, folders, two_squares):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    folders.write("images", np.zeros((30, 20, 3), np.uint8), "a.jpg", exif=exif)
    folders.write("labels", two_squares)
    (record,) = load(fresh_name, folders)
    assert (record["height"], record["width"]) == (20, 30)


def test_stock_mapper_reads_the_dicts(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    ignore = np.zeros(two_squares.shape, np.uint8)
    ignore[0] = 255
    folders.write("ignore", ignore)
    (record,) = load(fresh_name, folders, ignore_dir=folders.root / "ignore")
    mapper = DatasetMapper(
        True,
        augmentations=[NoOpTransform()],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    mapped = mapper(record)
    assert np.array_equal(mapped["instances"].gt_masks.tensor[1], two_squares == 1000)
    assert np.array_equal(mapped["sem_seg"], ignore)


def broken_png(path):
    path.write_bytes(path.read_bytes()[:60])


BREAKAGES = {
    "label missing": (lambda f: f.path("labels", "b.png").unlink(), ["no label", "'b'", "labels"]),
    "label cut off": (lambda f: broken_png(f.path("labels", "b.png")), ["b.png", "cannot be read"]),
    "image no image": (lambda f: f.path("images", "b.png").write_text("x"), ["b.png", "cannot be"]),
    "label RGB": (
        lambda f: f.write("labels", np.arange(1800, dtype=np.uint8).reshape(20, 30, 3), "b.png"),
        ["b.png", "3 channels"],
    ),
    "label smaller": (
        lambda f: f.write("labels", np.zeros((10, 30), np.uint8), "b.png"),
        ["b.png", "30x20", "30x10"],
    ),
    "stem twice": (
        lambda f: f.write("images", np.zeros((20, 30), np.uint8), "b.bmp"),
        ["'b'", "b.bmp, b.png", "names of their own"],
    ),
    "negative ids": (
        lambda f: (
            f.path("labels", "b.png").unlink(),
            f.write("labels", np.full((20, 30), -1, np.int32), "b.tif"),
        ),
        ["b.tif", "negative"],
    ),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_loading_a_broken_set_names_the_file(fresh_name, folders, two_squares, kind):
    for stem in "abc":
        folders.add(stem, two_squares)
    breakage, words = BREAKAGES[kind]
    breakage(folders)
    with pytest.raises(UserError) as caught:
        load(fresh_name, folders)
    for word in [*words, fresh_name, f"check_dataset({fresh_name!r})"]:
        assert word in str(caught.value)


def test_missing_folder_is_an_error_when_used(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path / "none", tmp_path)
    with pytest.raises(UserError, match=r"image_dir .*none does not exist.*DETECTRON2_DATASETS"):
        DatasetCatalog.get(fresh_name)


def test_metadata(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path / "i", tmp_path / "l", thing_classes=["cell"])
    metadata = MetadataCatalog.get(fresh_name)
    assert metadata.thing_classes == ["cell"]
    assert metadata.evaluator_type == "coco"
    assert metadata.label_dir == str((tmp_path / "l").resolve())
