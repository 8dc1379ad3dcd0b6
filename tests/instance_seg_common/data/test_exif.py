"""The EXIF orientation: applied as Detectron2 does, or ignored; what is said of it; TIFF's own."""

import json

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from PIL import Image
from pycocotools import mask as mask_util

from instance_seg_common.data import register_coco_dataset, register_label_map_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.image_header import EXIF_ORIENTATION
from instance_seg_common.data.images import image_header, read_pixels, read_stock
from instance_seg_common.data.mapper import build_train_mapper
from instance_seg_common.data.reading import Reading
from instance_seg_common.errors import UserError
from instance_seg_common.visualization.false_colors import load_image

IGNORE = Reading(exif="ignore")
# How a viewer shows the stored pixels, EXIF 2.32, tag 274: what row 0 and column 0 are.
SHOWN = {
    1: lambda a: a,
    2: lambda a: np.flip(a, 1),  # top, right
    3: lambda a: np.flip(a, (0, 1)),  # bottom, right
    4: lambda a: np.flip(a, 0),  # bottom, left
    5: lambda a: np.swapaxes(a, 0, 1),  # left, top
    6: lambda a: np.flip(np.swapaxes(a, 0, 1), 1),  # right, top
    7: lambda a: np.flip(np.swapaxes(a, 0, 1), (0, 1)),  # right, bottom
    8: lambda a: np.flip(np.swapaxes(a, 0, 1), 0),  # left, bottom
}


def save(pixels, path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    if path.suffix == ".tif":
        tags = [(EXIF_ORIENTATION, "H", 1, orientation, True)]
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags)
    elif path.suffix == ".png":
        Image.fromarray(pixels).save(path, exif=exif)
    else:
        Image.fromarray(pixels).save(path, exif=exif, quality=95, subsampling=0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_each_orientation(tmp_path, orientation, ending):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    save(pixels, path, orientation)
    stored = read_pixels(path, IGNORE)
    if ending in ("png", "tif"):
        assert np.array_equal(stored, pixels)
    expected = SHOWN[orientation](stored)
    assert np.array_equal(read_pixels(path), expected)
    assert np.array_equal(read_stock(path), expected)
    assert image_header(path).size == expected.shape[:2]
    assert image_header(path, IGNORE).size == (12, 20)
    if ending != "tif":  # which Pillow has turned already when Detectron2 turns it once more
        assert np.array_equal(read_image(str(path), "RGB"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_of_16_bits(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 65535, (12, 20, 3), dtype=np.uint16)
    save(pixels, tmp_path / "a.tif", orientation)
    assert np.array_equal(read_pixels(tmp_path / "a.tif"), SHOWN[orientation](pixels))


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    """Some programs append the chunk; Pillow applies it only after it has decoded the file."""
    path = tmp_path / "a.png"
    save(np.zeros((12, 20, 3), np.uint8), path, 6)
    data = path.read_bytes()
    begin = data.index(b"eXIf") - 4
    end = begin + 12 + int.from_bytes(data[begin : begin + 4], "big")
    last = data.index(b"IEND") - 4
    path.write_bytes(data[:begin] + data[end:last] + data[begin:end] + data[last:])
    assert read_image(str(path)).shape[:2] == (20, 12)
    assert image_header(path).size == read_stock(path).shape[:2] == (20, 12)


def test_a_broken_block_is_no_orientation(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 12)).save(path, exif=b"Exif\0\0no TIFF in here")
    assert image_header(path).orientation == 1
    assert np.array_equal(read_stock(path), read_image(str(path), "RGB"))


def photograph(orientation, size=(60, 60)):
    """Stored pixels of bright objects on dark ground, and their masks as stored."""
    labels = np.zeros(size, np.uint16)
    labels[5:20, 8:40], labels[30:38, 5:15] = 1, 2
    pixels = np.where(labels[:, :, None] > 0, 220, 30).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2), labels


def write_coco(folder, labels, size):
    rles = [mask_util.encode(np.asfortranarray(labels == i).astype(np.uint8)) for i in (1, 2)]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(mask_util.area(rle)),
         "bbox": mask_util.toBbox(rle).tolist(),
         "segmentation": {"size": list(size), "counts": rle["counts"].decode()}}
        for i, rle in enumerate(rles, start=1)
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (folder / "set.json").write_text(json.dumps(content))


def contrast(image, record):
    """Mean inside the masks over the mean outside."""
    masks = [mask_util.decode(a["segmentation"]) for a in record["annotations"]]
    inside = np.any(masks, axis=0)
    return image[inside].mean() / image[~inside].mean()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("before", [True, False], ids=["annotated before", "annotated after"])
def test_masks_lie_on_their_objects(tmp_path, fresh_name, orientation, before):
    """A square photograph: sizes cannot tell whether it was annotated before it was turned."""
    pixels, labels = photograph(orientation)
    save(pixels, tmp_path / "a.jpg", orientation)
    annotated = labels if before else SHOWN[orientation](labels)
    write_coco(tmp_path, annotated, annotated.shape)
    right = "ignore" if before else "apply"
    register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path, exif=right)
    (record,) = DatasetCatalog.get(fresh_name)
    assert contrast(load_image(record), record) == pytest.approx(220 / 30, rel=0.05)
    wrong = {key: value for key, value in record.items() if key != "reading"}
    if before:
        assert contrast(load_image(wrong), wrong) < 4


def test_training_sees_what_is_annotated(tmp_path, fresh_name, tiny_cfg):
    pixels, labels = photograph(6, (40, 60))
    save(pixels, tmp_path / "a.jpg", 6)
    write_coco(tmp_path, labels, labels.shape)
    register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path, exif="ignore")
    (record,) = DatasetCatalog.get(fresh_name)
    item = build_train_mapper(tiny_cfg, augmentations=[])(record)
    inside = item["instances"].gt_masks.tensor.any(dim=0).numpy()
    image = item["image"].numpy().mean(axis=0)
    assert image.shape == inside.shape == (40, 60)
    assert image[inside].mean() / image[~inside].mean() == pytest.approx(220 / 30, rel=0.05)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_coco_annotated_before_it_was_turned_is_an_error_with_the_way_out(
    tmp_path, fresh_name, tiny_cfg, orientation
):
    pixels, labels = photograph(orientation, (40, 60))
    save(pixels, tmp_path / "a.jpg", orientation)
    write_coco(tmp_path, labels, labels.shape)
    register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path)
    words = rf"EXIF orientation {orientation} \(tag 274\).*annotated before.*`exif: ignore`"
    (error,) = check_dataset(fresh_name).errors
    assert error.kind == "sizes differ" and "correct" not in error.sentence
    for use in (load_checked_panel, build_train_mapper(tiny_cfg)):
        with pytest.raises(UserError, match=words):
            use(DatasetCatalog.get(fresh_name)[0])
    DatasetCatalog.remove(fresh_name)
    register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path, exif="ignore")
    report = check_dataset(fresh_name)
    assert report.ok and report.notices == []


def load_checked_panel(record):
    from instance_seg_common.visualization.panels import annotation_panel

    return annotation_panel(record)


def test_ignoring_what_was_applied_by_the_annotator_is_an_error(tmp_path, fresh_name):
    pixels, labels = photograph(6, (40, 60))
    save(pixels, tmp_path / "a.jpg", 6)
    turned = SHOWN[6](labels)
    write_coco(tmp_path, turned, turned.shape)
    register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path, exif="ignore")
    (error,) = check_dataset(fresh_name).errors
    assert "`exif: ignore` leaves out" in error.sentence and "`exif: apply`" in error.sentence


def test_label_maps_of_stored_pixels_are_an_error_with_the_way_out(folders, fresh_name):
    pixels, labels = photograph(8, (40, 60))
    save(pixels, folders.path("images", "a.jpg"), 8)
    folders.write("labels", labels)
    parts = folders.root / "images", folders.root / "labels"
    register_label_map_dataset(fresh_name, *parts)
    words = r"EXIF orientation 8.*60x40 is its size as it is stored.*`exif: ignore`"
    with pytest.raises(UserError, match=words):
        DatasetCatalog.get(fresh_name)
    (error,) = check_dataset(fresh_name).errors
    assert error.kind == "sizes differ" and "`exif: ignore`" in error.sentence
    DatasetCatalog.remove(fresh_name)
    register_label_map_dataset(fresh_name, *parts, exif="ignore")
    (record,) = DatasetCatalog.get(fresh_name)
    assert record["reading"] == IGNORE
    assert contrast(load_image(record), record) == pytest.approx(220 / 30, rel=0.05)


@pytest.mark.parametrize("orientation", [3, 6])
def test_tagged_images_are_counted_and_named(folders, fresh_name, orientation):
    pixels, labels = photograph(orientation)
    for i in range(5):
        save(pixels, folders.path("images", f"{i}.jpg"), orientation if i else 1)
        folders.write("labels", labels, f"{i}.png")
    register_label_map_dataset(fresh_name, folders.root / "images", folders.root / "labels")
    report = check_dataset(fresh_name)
    assert report.ok and report.orientations == {orientation: 4}
    text = report.text()
    assert f"images with an EXIF orientation: {orientation} (4)" in text
    assert f"1.jpg has the EXIF orientation {orientation} (tag 274)" in text
    assert "write `exif: ignore`" in text
