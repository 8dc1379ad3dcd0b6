"""A file that is no COCO file of instances is named, with what to do; encodings are read."""

import codecs
import gzip
import io
import json
import time
import tracemalloc
import zipfile

import pytest
from coco_sets import assert_masks, good_content, truth_ap, write_images
from detectron2.data import DatasetCatalog, MetadataCatalog

from instance_seg_common.data import register_coco_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.errors import UserError

GOOD = good_content()


def bare(*keys, **values):
    """A good file whose annotations lack some keys and have others."""
    content = good_content()
    for entry in content["annotations"]:
        for key in keys:
            del entry[key]
        entry.update(values)
    return content


def zipped(text):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("set.json", text)
    return archive.getvalue()


TEXT = json.dumps(GOOD)
LVIS = {**GOOD, "images": [{**image, "neg_category_ids": [1]} for image in GOOD["images"]]}
PANOPTIC = {
    **GOOD,
    "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 7}]}],
}
OTHERS = [
    ([{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}], "file of results"),
    ([{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "Label Studio"),
    ([{"type": "Feature", "geometry": {}}], "GeoJSON"),
    ([], "holds a list"),
    ("text", "holds a str"),
    (None, "holds a NoneType"),
    ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
    ({"shapes": [], "imagePath": "a.png", "imageData": None}, "Labelme"),
    ({"_via_img_metadata": {}, "_via_settings": {}}, "VGG Image Annotator"),
    (PANOPTIC, "panoptic"),
    (bare("segmentation", "bbox", caption="a cat"), "captions"),
    (bare("segmentation", keypoints=[1, 2, 2]), "keypoints but no masks"),
    (bare("segmentation"), "boxes but no masks"),
    (bare(segmentation=[]), "boxes but no masks"),
    (LVIS, "LVIS"),
    ({"images": GOOD["images"], "categories": []}, "images without annotations"),
    ({"images": GOOD["images"], "annotations": {}}, "under 'annotations'"),
    ({"images": [1], "annotations": []}, "under 'images'"),
    (
        {"images": [], "annotations": [], "classes": []},
        "under 'categories'. Its keys are: annotations, classes",
    ),
    ({**GOOD, "categories": ["cat"]}, "under 'categories'"),
]
BROKEN = [
    (TEXT.encode()[:200], "cut off"),
    (TEXT.encode()[:-1], "cut off"),
    (TEXT.replace('"images": [', '"images": [,', 1).encode(), "correct it there"),
    (b"", "is empty"),
    (b" \n", "is empty"),
    (zipped(TEXT), "compressed archive"),
    (gzip.compress(TEXT.encode()), "compressed archive"),
    ('{"images": "\u00e4"}'.encode("latin-1"), "not UTF-8 text (byte 12"),
    (b"[" * 100_000, "lists within lists"),
    (b'{"a":' * 100_000, "lists within lists"),
    (b'{"images": [' + b"9" * 5000 + b"]}", "not valid JSON"),
]


@pytest.fixture
def registered(fresh_name, tmp_path):
    """Function of the bytes of a file: the name of the data set."""
    write_images(tmp_path / "images")

    def register(data):
        (tmp_path / "set.json").write_bytes(data)
        register_coco_dataset(fresh_name, tmp_path / "set.json", tmp_path / "images")
        return fresh_name

    return register


@pytest.mark.parametrize(
    ("data", "words"), [(json.dumps(content).encode(), words) for content, words in OTHERS] + BROKEN
)
def test_another_file_is_named(registered, data, words):
    name = registered(data)
    errors = check_dataset(name).errors
    assert [error.kind for error in errors] == ["JSON unusable"]
    assert words in errors[0].sentence and "set.json" in errors[0].sentence
    for use in (DatasetCatalog.get, lambda n: MetadataCatalog.get(n).thing_classes):
        with pytest.raises(UserError) as caught:
            use(name)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-32"),
    ],
)
def test_encodings(registered, data):
    name = registered(data)
    assert check_dataset(name).ok
    assert_masks(name)
    assert truth_ap(name)[0] == pytest.approx(100)


def test_a_folder_in_place_of_the_file(fresh_name, tmp_path):
    register_coco_dataset(fresh_name, tmp_path, tmp_path)
    with pytest.raises(UserError, match="json_file .* is not a folder|is not a file"):
        DatasetCatalog.get(fresh_name)


def hostile(**changes):
    content = good_content()
    for part, values in changes.items():
        content[part][0].update(values)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "data",
    [
        hostile(annotations={"segmentation": {"size": [10**6, 10**6], "counts": "0"}}),
        hostile(annotations={"segmentation": {"size": [40, 60], "counts": "o" * 10**6}}),
        hostile(annotations={"segmentation": {"size": [40, 60], "counts": [10**300] * 1000}}),
        hostile(annotations={"segmentation": [[10**300, 1, 2, 3, 4, 5]]}),
        hostile(annotations={"segmentation": [[[[[[[[1, 2]]]]]]]] * 1000}),
        hostile(images={"height": 10**12, "width": 10**12}),
        hostile(images={"height": 2**17, "width": 2**17}),
        hostile(images={"height": 60_000, "width": 60_000}, annotations={"iscrowd": 1}),
    ],
)
def test_hostile_content_costs_neither_time_nor_memory(registered, data):
    name = registered(data)
    started = time.process_time()  # no other process makes it longer
    tracemalloc.start()
    report = check_dataset(name)
    with pytest.raises(UserError):
        DatasetCatalog.get(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not report.ok
    assert peak < 100e6 and time.process_time() - started < 20
