"""A layout that is recognised but not asked for: the error has the line of YAML that reads it."""

import re
import unicodedata

import numpy as np
import pycocotools.mask as mask_util
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from label_trees import TREES, image, label_map, square, write

from instance_seg_common.config import get_cfg_with_plugins
from instance_seg_common.data import register_from_config
from instance_seg_common.data.check import check_dataset
from instance_seg_common.errors import UserError

LOSSES = r"\b(remove|delete|discard|drop|keep one)\b"


@pytest.fixture
def register(fresh_name, tmp_path, monkeypatch):
    """Function of the keys of an entry: registers it in place of the one before."""
    monkeypatch.chdir(tmp_path)

    def register(**keys):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if fresh_name in catalog.list():
                catalog.remove(fresh_name)
        cfg = get_cfg_with_plugins()
        cfg.DATASETS.REGISTER = [{"name": fresh_name, "format": "label_map", **keys}]
        register_from_config(cfg)
        return fresh_name

    return register


def complaint(name):
    """The sentence of the loader, which is also in the report of the check."""
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(name)
    sentence = str(caught.value)
    report = check_dataset(name)
    assert not report.ok
    for text in (sentence, report.text()):
        assert not re.search(LOSSES, text), text
    return sentence, report.text()


def advised(sentence):
    """The keys in the line of YAML that a sentence has."""
    keys = "image_dir|label_dir|image_suffix|label_suffix|instances"
    (line,) = re.findall(rf"`((?:{keys}): .*?)`", sentence)
    return yaml.safe_load(f"{{{line}}}")


CELLS = {"image_dir": "cells/train", "label_dir": "cells/train"}
# The tree that is there, and an entry that does not read it.
WRONG = [
    ("cellpose", CELLS),
    ("cellpose_saved", {"image_dir": "cells/saved", "label_dir": "cells/saved"}),
    ("cellpose_img", {"image_dir": "cells/filter", "label_dir": "cells/filter"}),
    ("stardist", {"image_dir": "stardist/train/images", "label_dir": "stardist/train/labels"}),
    ("stardist", {"image_dir": "stardist/train", "label_dir": "stardist/train"}),
    ("bowl", {"image_dir": "stage1_train", "label_dir": "stage1_train"}),
    ("numbered", {"image_dir": "numbered/images", "label_dir": "numbered/masks"}),
    ("grouped", {"image_dir": "grouped/images", "label_dir": "grouped/masks"}),
    ("nested", {"image_dir": "nested/images", "label_dir": "nested/labels"}),
    ("stardist", {"image_dir": "stardist", "label_dir": "stardist"}),
    ("cellpose", {**CELLS, "label_suffix": "_mask"}),
    ("bowl", {"image_dir": "stage1_train/*/images", "label_dir": "stage1_train/*/masks"}),
    ("grouped", {"image_dir": "grouped/images", "label_dir": "grouped/masks/*"}),
    (
        "numbered",
        {"image_dir": "numbered/images", "label_dir": "numbered/masks", "instances": "files"},
    ),
]


@pytest.mark.parametrize(
    ("tree", "keys"), WRONG, ids=[f"{t}-{n}" for n, (t, _) in enumerate(WRONG)]
)
def test_the_line_of_the_error_reads_the_tree(register, tmp_path, tree, keys):
    objects = TREES[tree](tmp_path).objects
    sentence, report = complaint(register(**keys))
    line = advised(sentence)
    assert advised(report) == line
    records = DatasetCatalog.get(register(**{**keys, **line}))
    assert {r["image_id"]: len(r["annotations"]) for r in records} == {
        image_id: len(masks) for image_id, masks in objects.items()
    }


SUFFIXES = ["_mask", "-mask", "_label", "_labels", "_seg", " mask", "_instance_ids", "_GT"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("image_suffix", ["", "_img"])
def test_suffixes_in_two_folders(register, tmp_path, suffix, image_suffix):
    for stem in ("a", "b"):
        write(tmp_path / f"images/{stem}{image_suffix}.png", image())
        write(tmp_path / f"labels/{stem}{suffix}.png", label_map([square(2, 2)]))
    keys = {"image_dir": "images", "label_dir": "labels"}
    sentence, _ = complaint(register(**keys))
    assert len(DatasetCatalog.get(register(**keys, **advised(sentence)))) == 2


def write_pair(tmp_path, image_name, label_name):
    write(tmp_path / "images" / image_name, image())
    write(tmp_path / "labels" / label_name, label_map([square(2, 2)]))


TWO = {"image_dir": "images", "label_dir": "labels"}


def test_names_that_differ_in_case(register, tmp_path):
    write_pair(tmp_path, "Plate.png", "plate.tif")
    sentence, report = complaint(register(**TWO))
    for text in (sentence, report):
        assert "'Plate' and 'plate', which differ only in upper and lower case" in text


def test_one_of_many_that_has_another_name(register, tmp_path):
    for stem in "abc":
        write_pair(tmp_path, f"{stem}.png", f"{stem}.png" if stem != "b" else "b_label.png")
    sentence, _ = complaint(register(**TWO))
    assert "'b' and 'b_label': give both files one name" in sentence
    assert "label_suffix" not in sentence


def test_a_prefix_is_named_too(register, tmp_path):
    write_pair(tmp_path, "img_7.png", "mask_7.png")
    sentence, _ = complaint(register(**TWO))
    assert "'img_7' and 'mask_7'" in sentence


def test_two_ways_of_writing_an_umlaut_are_one(register, tmp_path):
    names = [unicodedata.normalize(form, "Zelle_ä.png") for form in ("NFC", "NFD")]
    write_pair(tmp_path, *names)
    assert len(DatasetCatalog.get(register(**TWO))) == 1


@pytest.mark.parametrize(
    ("image_name", "label_name", "suffix"),
    [
        ("a.ome.tif", "a.tif", ""),
        ("a.tif", "a.OME.TIF", ""),
        ("a.OME.tiff", "a.ome_masks.png", "_masks"),
        ("a.PNG", "a.TIF", ""),
        ("a.b.c.png", "a.b.c.tif", ""),
    ],
)
def test_double_and_upper_case_endings(register, tmp_path, image_name, label_name, suffix):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write(tmp_path / "images/x.png", image())
    write(tmp_path / "labels/x.png", label_map([square(2, 2)]))
    (tmp_path / "images/x.png").rename(tmp_path / "images" / image_name)
    (tmp_path / "labels/x.png").rename(tmp_path / "labels" / label_name)
    keys = {**TWO, "label_suffix": suffix} if suffix else TWO
    (record,) = DatasetCatalog.get(register(**keys))
    assert record["image_id"] == image_name.rsplit(".", 1)[0].removesuffix(".ome").removesuffix(
        ".OME"
    )


def test_folders_of_one_name_in_another_case(register, tmp_path):
    write(tmp_path / "Images/a.png", image())
    write(tmp_path / "Masks/a.png", label_map([square(2, 2)]))
    sentence, _ = complaint(register(**TWO))
    assert f"image_dir: {tmp_path / 'Images'}" in sentence
    sentence, _ = complaint(register(image_dir="Images", label_dir="labels"))
    assert advised(sentence) == {"label_dir": str(tmp_path / "Masks")}


def test_what_a_folder_without_images_has(register, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    sentence, _ = complaint(register(**TWO))
    assert "images has no files" in sentence
    for name in ("a.czi", "b.czi", "c.nd2"):
        (tmp_path / "images" / name).write_text("")
    sentence, _ = complaint(register(**TWO))
    assert "2 *.czi, 1 *.nd2" in sentence and ".tif" in sentence


def test_pickles_of_cellpose_are_not_opened(register, tmp_path):
    for stem in ("a", "b"):
        write(tmp_path / f"images/{stem}.png", image())
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "labels/a_seg.npy", {"masks": 1}, allow_pickle=True)
    sentence, report = complaint(register(**TWO))
    for text in (sentence, report):
        assert "*_seg.npy" in text and "save the masks as PNG or TIFF" in text


def test_images_with_nothing_but_pickles_beside_them(register, tmp_path):
    for stem in ("a", "b"):
        write(tmp_path / f"cells/{stem}.png", image())
        (tmp_path / f"cells/{stem}_seg.npy").write_bytes(b"")
    for suffix in ("", "_masks"):
        keys = {"image_dir": "cells", "label_dir": "cells"}
        sentence, _ = complaint(register(**keys, **({"label_suffix": suffix} if suffix else {})))
        assert "*_seg.npy" in sentence and "save the masks as PNG or TIFF" in sentence


def test_a_suffix_that_no_image_has(register, tmp_path):
    write_pair(tmp_path, "a_rgb.png", "a.png")
    sentence, _ = complaint(register(**TWO, image_suffix="_img"))
    assert "Correct image_suffix: its files are called a_rgb.png." in sentence


def test_labels_in_one_folder_below(register, tmp_path):
    for stem in ("a", "b"):
        write(tmp_path / f"images/{stem}.png", image())
        write(tmp_path / f"labels/export/{stem}.png", label_map([square(2, 2)]))
    sentence, _ = complaint(register(**TWO))
    assert advised(sentence) == {"label_dir": str(tmp_path / "labels/export")}


def test_two_images_in_a_folder_of_one_image(register, tmp_path):
    TREES["bowl"](tmp_path)
    write(tmp_path / "stage1_train/3cee/images/other.png", image())
    keys = {"image_dir": "stage1_train/*/images", "label_dir": "stage1_train/*/masks"}
    sentence, _ = complaint(register(**keys, instances="files"))
    assert "3cee.png, other.png" in sentence


def test_an_image_without_a_mask_file_is_not_one_without_objects(register, tmp_path):
    TREES["numbered"](tmp_path)
    write(tmp_path / "numbered/images/extra.png", image())
    keys = {"image_dir": "numbered/images", "label_dir": "numbered/masks", "instances": "files",
            "label_suffix": "_mask"}  # fmt: skip
    sentence, _ = complaint(register(**keys))
    assert "'extra'" in sentence
    write(tmp_path / "numbered/masks/extra_mask1.png", label_map([]))
    records = DatasetCatalog.get(register(**keys))
    assert sorted(len(r["annotations"]) for r in records) == [0, 2, 3]
    report = check_dataset(register(**keys))
    assert report.ok and "no object in the file" in report.text()


def test_the_same_mask_twice_is_a_notice(register, tmp_path):
    TREES["grouped"](tmp_path)
    write(tmp_path / "grouped/masks/b/77.png", square(10, 10).astype(np.uint8))
    name = register(image_dir="grouped/images", label_dir="grouped/masks/*", instances="files")
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(name)) == 6
    (notice,) = [f for f in check_dataset(name).notices if f.kind == "same mask twice"]
    assert "77.png has the same pixels as 1.png" in notice.sentence


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (label_map([square(2, 2), square(20, 20)]), "the values 1, 2 besides 0"),
        (np.ones((9, 9), np.uint8), "9x9 pixels, but 1.png of the same image is 60x40"),
        (np.full((40, 60), -1, np.int16), "negative"),
    ],
)
def test_a_file_that_does_not_show_one_object(register, tmp_path, pixels, words):
    TREES["grouped"](tmp_path)
    write(tmp_path / "grouped/masks/b/2.tif", pixels)
    (tmp_path / "grouped/masks/b/2.png").unlink()
    name = register(image_dir="grouped/images", label_dir="grouped/masks/*", instances="files")
    sentence, report = complaint(name)
    assert words in sentence and words in report


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"instances": "polygons"}, "one of ids, components, colors, files, not 'polygons'"),
        ({"instances": "files", "class_of_id": 1}, "no ids that class_of_id could read"),
        ({"instances": "colors", "class_of_id": 1}, "no ids that class_of_id could read"),
    ],
)
def test_keys_that_contradict(register, keys, words):
    with pytest.raises(UserError, match=words):
        register(**TWO, **keys)


def test_classes_of_overlapping_objects(register, tmp_path):
    TREES["grouped"](tmp_path)
    classes = np.ones((40, 60), np.uint8)
    classes[:, 25:] = 2
    for stem in "ab":
        write(tmp_path / f"classes/{stem}.png", classes)
    keys = {"image_dir": "grouped/images", "label_dir": "grouped/masks/*", "instances": "files",
            "class_dir": "classes", "classes": ["x", "y"]}  # fmt: skip
    name = register(**keys)
    found = {
        r["image_id"]: [a["category_id"] for a in r["annotations"]]
        for r in DatasetCatalog.get(name)
    }
    assert found == {"a": [0, 0, 1], "b": [0, 1]}
    areas = [mask_util.area(a["segmentation"]) for a in DatasetCatalog.get(name)[0]["annotations"]]
    assert areas == [144, 144, 64]
    assert check_dataset(name).classes == {"x": 3, "y": 2}
