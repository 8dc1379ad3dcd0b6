"""Every kind of breakage is found, with its file, and the check goes on to the end."""

import copy
import functools
import json
import operator

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image

from instance_seg_common.data import register_coco_dataset, register_label_map_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.check_report import histogram
from instance_seg_common.errors import UserError
from instance_seg_common.masks import decode_segmentation


def cut(path):
    path.write_bytes(path.read_bytes()[:70])


def repaint(folders, part, name, region, value):
    path = folders.path(part, name)
    array = np.array(Image.open(path))
    array[region] = value
    Image.fromarray(array).save(path)


BOTH = (slice(3, 5), slice(2, 6))  # half of instance 7
LARGE = (slice(8, 14), slice(10, 15))  # all of instance 1000
CORNER = (slice(18, 20), slice(28, 30))

# What is done to a good set, the kind found, the file's name, words of the sentence.
BREAKAGES = [
    (lambda f: f.path("labels").unlink(), "label missing", "a.png", ["no label", "'a'"]),
    (lambda f: f.path("images").unlink(), "image missing", "a.png", ["no image", "'a'"]),
    (lambda f: f.path("classes").unlink(), "class image missing", "a.png", ["classes"]),
    (lambda f: cut(f.path("images")), "image unreadable", "a.png", ["cannot be read"]),
    (lambda f: cut(f.path("labels")), "label unusable", "a.png", ["cannot be read"]),
    (
        lambda f: f.write("labels", np.arange(1800, dtype=np.uint8).reshape(20, 30, 3)),
        "label unusable",
        "a.png",
        ["3 channels"],
    ),
    (
        lambda f: (
            f.path("labels").unlink(),
            f.write("labels", np.ones((20, 30), np.uint8), "a.jpg"),
        ),
        "label unusable",
        "a.jpg",
        ["JPEG", "store it as PNG"],
    ),
    (
        lambda f: (
            f.write("labels", np.full((20, 30), 0.5, np.float32), "a.tif")
            and f.path("labels").unlink()
        ),
        "label unusable",
        "a.tif",
        ["fractions"],
    ),
    (
        lambda f: f.write("images", np.zeros((20, 31, 3), np.uint8)),
        "sizes differ",
        "a.png",
        ["31x20", "30x20"],
    ),
    (
        lambda f: f.write("classes", np.zeros((19, 30), np.uint8)),
        "sizes differ",
        "a.png",
        ["Class image", "30x19"],
    ),
    (
        lambda f: Image.new("P", (30, 20)).save(f.path("ignore")),
        "ignore map unusable",
        "a.png",
        ["mode P"],
    ),
    (
        lambda f: f.write("ignore", np.zeros((20, 31), np.uint8)),
        "ignore map unusable",
        "a.png",
        ["31x20", "30x20"],
    ),
    (
        lambda f: repaint(f, "classes", "a.png", LARGE, 3),
        "class out of range",
        "a.png",
        ["class values 3", "2 classes (x, y)"],
    ),
    (
        lambda f: repaint(f, "classes", "a.png", BOTH, 2),
        "instance with two classes",
        "a.png",
        ["ids 7"],
    ),
    (
        lambda f: repaint(f, "classes", "a.png", LARGE, 0),
        "instance without class",
        "a.png",
        ["1000", "left out"],
    ),
    (
        lambda f: (
            repaint(f, "labels", "a.png", LARGE, 0),
            repaint(f, "classes", "a.png", CORNER, 2),
        ),
        "class without instance",
        "a.png",
        ["class 2", "no instance id has a pixel"],
    ),
    (
        lambda f: f.write("images", np.zeros((20, 30, 3), np.uint8), "a.bmp"),
        "duplicate stem",
        "a.png",
        ["a.bmp, a.png", "names of their own"],
    ),
]


@pytest.fixture
def label_maps(fresh_name, folders, two_squares):
    """A good set of two images with classes x and y."""
    classes = np.where(two_squares == 7, 1, np.where(two_squares == 1000, 2, 0)).astype(np.uint8)
    for stem in "ab":
        folders.add(stem, two_squares, classes)
    register_label_map_dataset(
        fresh_name,
        folders.root / "images",
        folders.root / "labels",
        thing_classes=("x", "y"),
        class_dir=folders.root / "classes",
        ignore_dir=folders.root / "ignore",
    )
    return folders


def test_a_good_set(label_maps, fresh_name):
    report = check_dataset(fresh_name)
    assert report.ok
    assert report.notices == []
    assert report.instances_per_image == [2, 2]
    assert report.areas == [16, 30, 16, 30]
    assert report.classes == {"x": 2, "y": 2}
    assert "2 images, 4 instances" in report.text()
    assert "Nothing is wrong." in report.text()


@pytest.mark.parametrize(
    ("breakage", "kind", "file", "words"), BREAKAGES, ids=[f"{b[1]}-{b[3][0]}" for b in BREAKAGES]
)
def test_one_breakage(label_maps, fresh_name, breakage, kind, file, words):
    breakage(label_maps)
    report = check_dataset(fresh_name)
    found = [f for f in report.errors if f.kind == kind]
    assert len(found) == 1, report.text()
    assert found[0].file.endswith(file)
    assert file in found[0].sentence or "'a'" in found[0].sentence
    for word in words:
        assert word in found[0].sentence
    assert found[0].sentence in report.text()
    assert 2 in report.instances_per_image  # b was still read


def test_all_breakages_are_reported_at_once(label_maps, fresh_name):
    cut(label_maps.path("images", "a.png"))
    cut(label_maps.path("labels", "b.png"))
    label_maps.write("labels", np.zeros((3, 3), np.uint8), "c.png")
    kinds = {finding.kind for finding in check_dataset(fresh_name).errors}
    assert kinds == {
        "image unreadable",
        "label unusable",
        "image missing",
        "class image missing",
    }


def test_missing_folders(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path / "i", tmp_path / "l")
    report = check_dataset(fresh_name)
    assert [f.kind for f in report.errors] == ["folder missing", "folder missing"]
    assert "DETECTRON2_DATASETS" in report.errors[0].sentence


def test_class_of_id_beyond_the_classes(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    register_label_map_dataset(
        fresh_name, folders.root / "images", folders.root / "labels", class_of_id=5
    )
    (error,) = check_dataset(fresh_name).errors
    assert error.kind == "class out of range"
    assert "ids 1000" in error.sentence


def test_notices_are_no_errors(fresh_name, folders, two_squares):
    two_squares[17:19, 25:28] = 7
    folders.add("a", two_squares)
    folders.add("b", np.zeros((20, 30), np.uint8))
    register_label_map_dataset(fresh_name, folders.root / "images", folders.root / "labels")
    report = check_dataset(fresh_name)
    assert report.ok
    assert [n.kind for n in report.notices] == ["disconnected instances", "no instances"]
    assert "ids 7." in report.notices[0].sentence


def test_equal_channels_are_said(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    folders.write("labels", np.dstack([(two_squares % 251).astype(np.uint8)] * 3))
    register_label_map_dataset(fresh_name, folders.root / "images", folders.root / "labels")
    report = check_dataset(fresh_name)
    assert report.ok and report.instances_per_image == [2]
    assert "a.png has 3 channels that say the same" in report.text()


def square(x, y, side=4):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotation(number, x, y, **changes):
    base = {"id": number, "image_id": 5, "category_id": 1, "iscrowd": 0, "area": 16}
    return {**base, "bbox": [x, y, 4, 4], "segmentation": square(x, y), **changes}


GOOD = {
    "images": [{"id": 5, "file_name": "a.png", "height": 20, "width": 30}],
    "annotations": [annotation(1, 2, 3), annotation(2, 10, 8)],
    "categories": [{"id": 1, "name": "x"}],
}


def changed(part, index, **changes):
    content = copy.deepcopy(GOOD)
    content[part][index].update(changes)
    return content


def added(part, entry):
    content = copy.deepcopy(GOOD)
    content[part].append(entry)
    return content


COCO_BREAKAGES = [
    (changed("annotations", 1, category_id=7), "class out of range", "category 7"),
    (changed("annotations", 1, image_id=8), "unknown image", "annotations 2"),
    (added("images", {**GOOD["images"][0], "width": 9}), "duplicate image id", "id 5"),
    (changed("annotations", 1, segmentation=[]), "mask missing", "no segmentation"),
    (changed("annotations", 1, segmentation=[[1, 1, 2, 2]]), "polygon too short", "4 numbers"),
    (changed("annotations", 1, segmentation=square(1, 1, 0)), "mask empty", "without a pixel"),
    (added("annotations", annotation(3, 2, 3)), "same mask twice", "1 and 3"),
    (
        changed("annotations", 1, segmentation={"size": [20, 30], "counts": [5, 5]}),
        "mask cut off",
        "10 pixels",
    ),
    (
        changed("annotations", 1, segmentation={"size": [30, 20], "counts": [600]}),
        "mask size differs",
        "[30, 20]",
    ),
    (changed("images", 0, height=21), "sizes differ", "30x21"),
    (changed("images", 0, file_name="b.png"), "image missing", "b.png"),
    ({"images": []}, "JSON unusable", "images without annotations"),
    (changed("annotations", 1, segmentation="x"), "polygon malformed", "'x'"),
    (changed("annotations", 1, segmentation=5), "mask malformed", "5"),
    (changed("annotations", 1, segmentation=[[1, 1, 5, 1, 5, None]]), "polygon malformed", "None"),
    (
        changed("annotations", 1, segmentation=[[1, 1, 1e300, 1, 5, 5]]),
        "polygon malformed",
        "1e+300, far outside",
    ),
    (changed("images", 0, height=None), "image entry incomplete", "lacks height"),
    (changed("images", 0, height=10**12), "image entry malformed", "height 1000000000000"),
    (changed("images", 0, file_name=3), "image entry malformed", "file_name 3"),
]


@pytest.fixture
def coco_check(fresh_name, folders):
    """Function of the content of a JSON: the report on it."""
    folders.write("images", np.zeros((20, 30, 3), np.uint8))

    def check(content):
        (folders.root / "set.json").write_text(json.dumps(content))
        register_coco_dataset(fresh_name, folders.root / "set.json", folders.root / "images")
        return check_dataset(fresh_name)

    return check


def test_a_good_coco_set(coco_check):
    crowd = {"size": [20, 30], "counts": [0, 600]}
    report = coco_check(added("annotations", annotation(3, 0, 0, iscrowd=1, segmentation=crowd)))
    assert report.ok, report.text()
    assert (report.instances_per_image, report.areas, report.crowds) == ([2], [16, 16], 1)


@pytest.mark.parametrize(
    ("content", "kind", "words"), COCO_BREAKAGES, ids=[b[1] for b in COCO_BREAKAGES]
)
def test_one_coco_breakage(coco_check, content, kind, words):
    report = coco_check(content)
    found = [f for f in report.errors if f.kind == kind]
    assert len(found) == 1, report.text()
    assert words in found[0].sentence
    assert found[0].file.endswith((".png", ".json"))
    assert found[0].file in found[0].sentence


WRONG = (
    None,
    True,
    -1,
    2.5,
    float("inf"),
    1e300,
    10**12,
    10**400,
    "x",
    [],
    [None],
    [[]],
    {},
    [1, 2, 3, 4],
)
RLE = {"size": [20, 30], "counts": [100, 50, 450]}
ALL_KINDS = {
    **GOOD,
    "annotations": [
        annotation(1, 2, 3),
        annotation(2, 10, 8, segmentation=RLE),
        annotation(3, 10, 8, segmentation={**RLE, "counts": [0, 20, 580]}, iscrowd=1),
    ],
}


def places(value):
    """The keys that lead to everything within nested lists and dicts, as tuples."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield (key,)
        if isinstance(child, (dict, list)):
            yield from ((key, *rest) for rest in places(child))


@pytest.mark.parametrize("place", places(ALL_KINDS), ids=str)
def test_no_content_stops_the_check_or_escapes_the_loader(coco_check, fresh_name, place):
    for wrong in (*WRONG, "REMOVED"):
        content = copy.deepcopy(ALL_KINDS)
        owner = functools.reduce(operator.getitem, place[:-1], content)
        owner[place[-1]] = wrong
        if wrong == "REMOVED":
            del owner[place[-1]]
        for catalog in (DatasetCatalog, MetadataCatalog):
            if fresh_name in catalog.list():
                catalog.remove(fresh_name)
        report = coco_check(content)
        try:
            records = DatasetCatalog.get(fresh_name)
        except UserError:
            assert not report.ok, wrong
            continue
        if report.ok:
            for item in [item for record in records for item in record["annotations"]]:
                decode_segmentation(item["segmentation"], 20, 30)


def test_every_annotation_without_a_mask_is_an_error(coco_check):
    content = copy.deepcopy(GOOD)
    for entry in content["annotations"]:
        entry["segmentation"] = {}
    (error,) = coco_check(content).errors
    assert error.kind == "JSON unusable" and "boxes but no masks" in error.sentence
    for entry in content["annotations"]:
        del entry["bbox"]
    kinds = [finding.kind for finding in coco_check(content).errors]
    assert kinds == ["no usable annotation", "mask missing", "mask missing"]


def test_masks_that_overlap_in_part_are_a_notice(coco_check):
    report = coco_check(added("annotations", annotation(3, 4, 3)))
    assert report.ok
    assert [n.kind for n in report.notices] == ["overlapping masks"]


def test_a_set_of_other_code(fresh_name, folders):
    path = folders.write("images", np.zeros((20, 30, 3), np.uint8))
    boxes = {"bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    annotations = [
        {**boxes, "bbox": [2, 3, 6, 7], "segmentation": square(2, 3), "category_id": 0},
        {**boxes, "bbox": [2, 3, 60, 7], "segmentation": square(9, 9), "category_id": 4},
    ]
    record = {"file_name": str(path), "height": 20, "width": 30, "annotations": annotations}
    DatasetCatalog.register(fresh_name, lambda: [record])
    MetadataCatalog.get(fresh_name).set(thing_classes=["x"])
    kinds = [finding.kind for finding in check_dataset(fresh_name).errors]
    assert kinds == ["class out of range", "box outside"]


def test_a_stock_set_without_files_is_a_finding(fresh_name, tmp_path):
    register_coco_instances(fresh_name, {}, str(tmp_path / "lost.json"), str(tmp_path))
    (error,) = check_dataset(fresh_name).errors
    assert error.kind == "not loadable" and "lost.json" in error.sentence


def test_a_record_of_other_code_without_its_keys_is_a_finding(fresh_name, folders):
    path = folders.write("images", np.zeros((20, 30, 3), np.uint8))
    record = {"file_name": str(path), "height": 20, "width": 30, "annotations": [{}]}
    DatasetCatalog.register(fresh_name, lambda: [record, {"file_name": "b.png"}])
    kinds = {finding.kind for finding in check_dataset(fresh_name).errors}
    assert kinds == {"class out of range", "box malformed", "mask missing", "entry incomplete"}


def test_unknown_name():
    with pytest.raises(UserError, match="no data set 'nowhere'"):
        check_dataset("nowhere")


def test_histogram_bins():
    lines = histogram("counts", [0, 1, 1, 5, 7], (0, 1, 2, 6, 11))
    assert lines[0] == "counts: 0 to 7, median 1"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["0", "1"],
        ["1", "2"],
        ["2-5", "1"],
        ["6-10", "1"],
    ]


@pytest.mark.parametrize("name", ["dsb2018_val", "coco_mini_val"])
def test_nothing_is_wrong_with_the_real_images(name, shared_data, monkeypatch):
    from instance_seg_common.data import register_builtin_datasets

    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    register_builtin_datasets()
    report = check_dataset(name)
    assert report.ok, report.text()
    assert sum(report.instances_per_image) == {"dsb2018_val": 3124, "coco_mini_val": 552}[name]


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_the_tool(folders, two_squares, monkeypatch, capsys, broken, status):
    import check_dataset as tool

    from instance_seg_common.engine.command_line import run_tool

    monkeypatch.setattr(tool, "UNNAMED", f"test_of_the_tool_{folders.root}")
    folders.add("a", two_squares)
    if broken:
        folders.path("images").unlink()
    pictures = folders.root / "pictures"
    arguments = ["--images", folders.root / "images", "--labels", folders.root / "labels"]
    monkeypatch.setattr("sys.argv", ["tool", *map(str, arguments), "--output", str(pictures)])
    with pytest.raises(SystemExit) as stopped:
        run_tool(tool.main)
    assert stopped.value.code == status
    output = capsys.readouterr().out
    assert ("error, image missing" in output) == broken
    assert (pictures / "a.png").exists() != broken


@pytest.mark.parametrize("lost", [False, True])
def test_the_tool_draws_by_default_and_says_where_it_cannot(
    folders, two_squares, monkeypatch, capsys, lost
):
    import check_dataset as tool

    name = f"test_of_the_default_{folders.root.name}"
    monkeypatch.setattr(tool, "UNNAMED", name)
    monkeypatch.chdir(folders.root)
    folders.add("a", two_squares)
    if lost:
        cut(folders.path("images"))
    monkeypatch.setattr("sys.argv", ["tool", "--images", "images", "--labels", "labels"])
    assert tool.main() == int(lost)
    captured = capsys.readouterr()
    assert (folders.root / "output" / "check" / name / "a.png").exists() != lost
    assert ("No pictures" in captured.err) == lost
