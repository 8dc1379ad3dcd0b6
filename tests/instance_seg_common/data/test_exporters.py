"""Trees as annotation tools export them, by their documentation, are read and score 100 of 100."""

import json
import re

import numpy as np
import pytest
from coco_sets import (
    CLASSES,
    SIZE,
    SQUARES,
    assert_masks,
    polygon,
    run_list,
    square_mask,
    truth_ap,
    write_images,
    write_json,
)
from detectron2.data import MetadataCatalog

from instance_seg_common.data import register_coco_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.errors import UserError


def annotations_of(first_id, entry):
    """``entry(square, image number from 0)`` of every object, with ids from ``first_id`` on."""
    found = []
    for image, squares in enumerate(SQUARES.values()):
        for square in squares:
            found.append({"id": first_id + len(found), **entry(square, image)})
    return found


def box(square):
    left, top, right, bottom, _ = square
    return [float(left), float(top), float(right - left), float(bottom - top)]


def area(square):
    return float(np.prod(box(square)[2:]))


def write_cvat(root, brush):
    """docs.cvat.ai, "COCO": a mask becomes run lengths with iscrowd 1, a polygon stays one."""

    def entry(square, image):
        runs = {"counts": run_list(square_mask(square)), "size": list(SIZE)}
        return {
            "image_id": image + 1,
            "category_id": square[4] + 1,
            "segmentation": runs if brush else [polygon(square)],
            "area": area(square),
            "bbox": box(square),
            "iscrowd": int(brush),
            "attributes": {"occluded": False},
        }

    write_images(root / "images" / "default")
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "version": "", "year": ""},
        "categories": [{"id": n, "name": c, "supercategory": ""} for n, c in enumerate(CLASSES, 1)],
        "images": [
            {
                "id": n,
                "width": SIZE[1],
                "height": SIZE[0],
                "file_name": name,
                "license": 0,
                "flickr_url": "",
                "coco_url": "",
                "date_captured": 0,
            }
            for n, name in enumerate(SQUARES, 1)
        ],
        "annotations": annotations_of(1, entry),
    }
    return write_json(root / "annotations" / "instances_default.json", content)


ROBOFLOW_NAMES = [
    "a_png.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
    "b_png.rf.f9e8d7c6b5a493827160.jpg",
]


def write_roboflow(root):
    """The JSON lies beside the images; category 0 is the project's name, and no class."""

    def entry(square, image):
        return {
            "image_id": image,
            "category_id": square[4] + 1,
            "bbox": box(square),
            "area": area(square),
            "segmentation": [polygon(square)],
            "iscrowd": 0,
        }

    write_images(root, ROBOFLOW_NAMES)
    content = {
        "info": {"year": "2024", "version": "1", "description": "Exported from roboflow.com"},
        "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "pets", "supercategory": "none"},
            *({"id": n, "name": c, "supercategory": "pets"} for n, c in enumerate(CLASSES, 1)),
        ],
        "images": [
            {
                "id": n,
                "license": 1,
                "file_name": name,
                "height": SIZE[0],
                "width": SIZE[1],
                "extra": {"name": "a.png"},
            }
            for n, name in enumerate(ROBOFLOW_NAMES)
        ],
        "annotations": annotations_of(0, entry),
    }
    return write_json(root / "_annotations.coco.json", content)


def write_label_studio(root, folder):
    """label-studio-converter: everything counts from 0; on Windows file names have backslashes."""

    def entry(square, image):
        return {
            "image_id": image,
            "category_id": square[4],
            "segmentation": [[float(value) for value in polygon(square)]],
            "bbox": box(square),
            "ignore": 0,
            "iscrowd": 0,
            "area": area(square),
        }

    write_images(root / "images")
    content = {
        "images": [
            {"width": SIZE[1], "height": SIZE[0], "id": n, "file_name": f"{folder}{name}"}
            for n, name in enumerate(SQUARES)
        ],
        "categories": [{"id": n, "name": c} for n, c in enumerate(CLASSES)],
        "annotations": annotations_of(0, entry),
        "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"},
    }
    return write_json(root / "result.json", content)


def write_labelme(root):
    """What Labelme's examples/instance_segmentation/labelme2coco.py writes."""

    def entry(square, image):
        return {
            "image_id": image,
            "category_id": square[4],
            "segmentation": [[float(value) for value in polygon(square)]],
            "area": area(square),
            "bbox": box(square),
            "iscrowd": 0,
        }

    names = [f"JPEGImages/{name[0]}.jpg" for name in SQUARES]
    write_images(root, names)
    content = {
        "info": {"description": None, "url": None, "version": None, "year": 2024},
        "licenses": [{"url": None, "id": 0, "name": None}],
        "type": "instances",
        "images": [
            {
                "license": 0,
                "url": None,
                "file_name": name,
                "height": SIZE[0],
                "width": SIZE[1],
                "date_captured": None,
                "id": n,
            }
            for n, name in enumerate(names)
        ],
        "categories": [{"supercategory": None, "id": n, "name": c} for n, c in enumerate(CLASSES)],
        "annotations": annotations_of(0, entry),
    }
    return write_json(root / "annotations.json", content)


# Name, function that writes the tree, image_dir below it, options, kinds of the notices.
TREES = [
    ("CVAT polygons", lambda r: write_cvat(r, False), "images/default", {}, set()),
    ("CVAT one too high", lambda r: write_cvat(r, False), "images", {}, {"file names: folder"}),
    ("CVAT brush", lambda r: write_cvat(r, True), "images/default", {"crowds": "objects"}, set()),
    ("Roboflow", write_roboflow, ".", {}, {"annotation ids", "heading of categories"}),
    ("Label Studio", lambda r: write_label_studio(r, "images/"), ".", {}, {"annotation ids"}),
    (
        "Label Studio, images",
        lambda r: write_label_studio(r, "images/"),
        "images",
        {},
        {"annotation ids", "file names: folder"},
    ),
    (
        "Label Studio, Windows",
        lambda r: write_label_studio(r, "images\\"),
        ".",
        {},
        {"annotation ids", "file names: spelling"},
    ),
    (
        "Label Studio, project",
        lambda r: write_label_studio(r, "images\\1/"),
        ".",
        {},
        {"annotation ids", "file names: folder"},
    ),
    (
        "Label Studio 1.16",
        lambda r: write_label_studio(r, "..\\..\\label-studio\\label-studio\\media\\upload\\4\\"),
        ".",
        {},
        {"annotation ids", "file names: folder"},
    ),
    (
        "Label Studio, cloud",
        lambda r: write_label_studio(r, "/data/local-files/?d=set/images/"),
        ".",
        {},
        {"annotation ids", "file names: folder"},
    ),
    ("Labelme", write_labelme, ".", {}, {"annotation ids"}),
]


@pytest.mark.parametrize(
    ("write", "image_dir", "options", "notices"),
    [t[1:] for t in TREES],
    ids=[t[0].replace(" ", "_") for t in TREES],
)
def test_a_tree(fresh_name, tmp_path, write, image_dir, options, notices):
    register_coco_dataset(fresh_name, write(tmp_path), tmp_path / image_dir, **options)
    report = check_dataset(fresh_name)
    assert report.ok, report.text()
    assert {notice.kind for notice in report.notices} == notices
    assert MetadataCatalog.get(fresh_name).thing_classes == CLASSES
    assert_masks(fresh_name)
    assert truth_ap(fresh_name)[0] == pytest.approx(100)


def test_cvat_brush_without_the_option_is_an_error_with_the_way_out(fresh_name, tmp_path):
    register_coco_dataset(fresh_name, write_cvat(tmp_path, True), tmp_path / "images" / "default")
    with pytest.raises(UserError, match="crowds: objects"):
        truth_ap(fresh_name)


def write_qupath(root, names=CLASSES):
    """QuPath, File > Object data > Export as GeoJSON: one file an image, rings that are closed."""
    write_images(root / "images")
    for name, squares in SQUARES.items():
        features = []
        for number, square in enumerate(squares):
            numbers = polygon(square)
            ring = [list(pair) for pair in zip(numbers[::2], numbers[1::2])]
            rings = [[*ring, ring[0]]]
            several = number == 1  # a MultiPolygon of one polygon
            features.append(
                {
                    "type": "Feature",
                    "id": f"00000000-0000-0000-0000-{number:012}",
                    "geometry": {
                        "type": "MultiPolygon" if several else "Polygon",
                        "coordinates": [rings] if several else rings,
                    },
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": names[square[4]], "color": [200, 0, 0]},
                    },
                }
            )
        path = root / "geojson" / f"{name[0]}.geojson"
        write_json(path, {"type": "FeatureCollection", "features": features})
    return path


@pytest.fixture
def conversion(repository_root):
    """The lines of datasets/README.md that convert QuPath's files."""
    page = (repository_root / "datasets" / "README.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "geojson" in b]
    return block


def test_qupath_by_the_lines_of_the_page(fresh_name, tmp_path, monkeypatch, conversion):
    write_qupath(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(conversion, {})
    register_coco_dataset(fresh_name, tmp_path / "coco.json", tmp_path / "images")
    report = check_dataset(fresh_name)
    assert report.ok and {n.kind for n in report.notices} == {
        "area",
        "bbox",
        "iscrowd",
        "annotation ids",
    }
    assert_masks(fresh_name)
    assert truth_ap(fresh_name)[0] == pytest.approx(100)


def test_a_hole_of_qupath(fresh_name, tmp_path, monkeypatch, conversion):
    path = write_qupath(tmp_path)
    content = json.loads(path.read_text())
    content["features"][0]["geometry"]["coordinates"].append(
        [[14, 12], [20, 12], [20, 20], [14, 20], [14, 12]]
    )
    path.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    exec(conversion, {})
    runs = json.loads((tmp_path / "coco.json").read_text())["annotations"][3]["segmentation"]
    expected = square_mask(SQUARES["b.png"][0])
    expected[12:20, 14:20] = False
    from instance_seg_common.masks import decode_segmentation

    assert np.array_equal(decode_segmentation(runs, *SIZE), expected)


def test_a_file_of_qupath_or_labelme_is_named(fresh_name, tmp_path):
    register_coco_dataset(fresh_name, write_qupath(tmp_path), tmp_path / "images")
    with pytest.raises(UserError, match="GeoJSON file, as QuPath.*datasets/README.md"):
        truth_ap(fresh_name)
