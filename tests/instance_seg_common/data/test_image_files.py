"""File names as other machines and exporters write them find the one file that fits."""

import json
import unicodedata

import pytest
from coco_sets import SQUARES, assert_masks, good_content, truth_ap, write_images, write_json
from detectron2.data import DatasetCatalog

from instance_seg_common.data import image_files, register_coco_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.image_files import ImageFiles, plain_name
from instance_seg_common.errors import UserError

ACCENT = "zelle_\u00e4.png"


@pytest.fixture
def tree(tmp_path):
    """A folder with files in it, and one beside it."""
    root = tmp_path / "images"
    for name in ("a.png", "b c.png", "sub/d.png", "sub/deep/e.png", "x/f.png", "y/f.png", ACCENT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "beside.png").touch()
    return root


# What the name is, the file that it means, and the way that it was found.
FOUND = [
    ("a.png", "a.png", ""),
    ("sub/d.png", "sub/d.png", ""),
    ("./a.png", "a.png", ""),
    ("sub//d.png", "sub/d.png", ""),
    ("sub/../a.png", "a.png", "spelling"),
    ("sub\\d.png", "sub/d.png", "spelling"),
    (".\\sub\\deep\\e.png", "sub/deep/e.png", "spelling"),
    ("b%20c.png", "b c.png", "spelling"),
    ("file:///a.png", "a.png", "folder"),
    ("http://localhost:8080/data/upload/1/a.png", "a.png", "folder"),
    ("/data/local-files/?d=sub/d.png", "sub/d.png", "spelling"),
    ("images\\1/a.png", "a.png", "folder"),
    ("images/a.png", "a.png", "folder"),
    ("d.png", "sub/d.png", "folder"),
    ("C:\\Users\\me\\project\\sub\\d.png", "sub/d.png", "folder"),
    ("/home/me/project/a.png", "a.png", "folder"),
    ("..\\..\\label-studio\\media\\upload\\4\\a.png", "a.png", "folder"),
    ("A.PNG", "a.png", "case"),
    ("Sub/D.png", "sub/d.png", "case"),
    ("B%20C.png", "b c.png", "case"),
    ("y/F.png", "y/f.png", "case"),
    (unicodedata.normalize("NFD", ACCENT), ACCENT, "case"),
    ("../beside.png", "../beside.png", "outside"),
]


@pytest.mark.parametrize(("name", "file", "way"), FOUND)
def test_a_name_finds_its_file(tree, name, file, way):
    found = ImageFiles(tree).find(name)
    assert found.path is not None and found.path.resolve() == (tree / file).resolve()
    assert found.way == way


def test_an_absolute_name_of_this_machine(tree):
    assert ImageFiles(tree).find(str(tree / "sub" / "d.png")).way == "spelling"
    assert ImageFiles(tree).find(str(tree.parent / "beside.png")).way == "outside"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("f.png", "Several files fit: x/f.png and y/f.png; write one of these paths."),
        ("z/f.png", "Several files fit: x/f.png and y/f.png; write one of these paths."),
        ("a.jpg", "Nearest to it is a.png."),
        ("sub/d.tif", "Nearest to it is sub/d.png."),
        ("bc.png", "Nearest to it is b c.png."),
        ("entirely_different.jpeg", ""),
        ("", ""),
        ("a.png/", "Nearest to it is a.png."),
        ("sub", ""),
        ("a\0.png", "Nearest to it is a.png."),
        ("a" * 5000, ""),
        ("../" * 5000 + "nothing.png", ""),
    ],
)
def test_a_name_without_a_file_says_what_nearly_fits(tree, name, near):
    found = ImageFiles(tree).find(name)
    if name == "a.png/":
        assert found.way == "spelling"
        return
    assert found.path is None and found.near == near


def test_a_folder_is_listed_once(tree, monkeypatch):
    listings, walks = [], []
    scandir, walk = image_files.os.scandir, image_files.os.walk
    monkeypatch.setattr(image_files.os, "scandir", lambda p: listings.append(p) or scandir(p))
    files = ImageFiles(tree)
    for _ in range(100):
        assert files.find("a.png").way == ""
    assert len(listings) == 1
    monkeypatch.setattr(image_files.os, "walk", lambda p: walks.append(p) or walk(p))
    for _ in range(100):
        assert files.find("A.png").way == "case"
    assert len(walks) == 1


def test_plain_name_keeps_a_plain_name():
    assert plain_name("train/a.b-c_1.png") == "train/a.b-c_1.png"


@pytest.fixture
def named(fresh_name, tmp_path):
    """Function of the two file names in the JSON, and those of the files: the data set's name."""

    def register(names, files=tuple(SQUARES), image_dir="images"):
        content = good_content()
        for entry, name in zip(content["images"], names):
            entry["file_name"] = name
        write_images(tmp_path / "images", files)
        path = write_json(tmp_path / "set.json", content)
        register_coco_dataset(fresh_name, path, tmp_path / image_dir)
        return fresh_name

    return register


NAMES = [
    (["images\\a.png", "images\\b.png"], tuple(SQUARES), "images", "folder"),
    (["images\\a.png", "images\\b.png"], tuple(SQUARES), ".", "spelling"),
    (["/elsewhere/a.png", "/elsewhere/b.png"], tuple(SQUARES), "images", "folder"),
    (["A.png", "b.PNG"], tuple(SQUARES), "images", "case"),
    (["a%20b.png", "b%2Bc.png"], ("a b.png", "b+c.png"), "images", "spelling"),
    (["a.png", "b.png"], ("default/a.png", "default/b.png"), "images", "folder"),
    (["train/a.png", "train/b.png"], tuple(SQUARES), "images", "folder"),
    (["1/x.png", "2/x.png"], ("1/x.png", "2/x.png"), "images", None),
    (["1\\x.png", "2\\x.png"], ("1/x.png", "2/x.png"), "images", "spelling"),
    (["p/1/x.png", "p/2/x.png"], ("1/x.png", "2/x.png"), "images", "folder"),
]


@pytest.mark.parametrize(("names", "files", "image_dir", "way"), NAMES)
def test_a_data_set_with_such_names(named, tmp_path, names, files, image_dir, way):
    name = named(names, files, image_dir)
    report = check_dataset(name)
    assert report.ok, report.text()
    assert [n.kind for n in report.notices] == ([f"file names: {way}"] if way else [])
    records = assert_masks(name)
    assert [r["file_name"] for r in records] == [str(tmp_path / "images" / file) for file in files]
    assert truth_ap(name)[0] == pytest.approx(100)


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        (["train/a.png", "val/a.png"], "two images, one file", "train/a.png (id 1) and val/a.png"),
        (["a.png", "A.PNG"], "two images, one file", "a.png (id 1) and A.PNG"),
        (["a.png", "c.png"], "image missing", "c.png (id 2) does not exist"),
        (["a.png", "b.jpeg"], "image missing", "Nearest to it is b.png."),
        (["a.png", ""], "image entry malformed", "file_name ''"),
    ],
)
def test_two_images_never_share_a_file_in_silence(named, names, kind, words):
    name = named(names)
    (error,) = check_dataset(name).errors
    assert error.kind == kind and words in error.sentence
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(name)
    assert words in str(caught.value)


def test_one_image_with_two_ids_under_two_spellings(named):
    name = named(["a.png", ".\\a.png"])
    assert {n.kind for n in check_dataset(name).notices} == {
        "image twice",
        "file names: spelling",
        "overlapping masks",
    }
    (record,) = DatasetCatalog.get(name)
    assert len(record["annotations"]) == 5
    assert json.dumps(record["image_id"]) == "1"
