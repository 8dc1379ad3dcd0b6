"""Every way of writing the same COCO file gives the same masks, and its own truth AP 100."""

import json
import math

import pytest
from coco_sets import (
    SIZE,
    all_squares,
    assert_masks,
    good_content,
    polygon,
    run_list,
    run_text,
    square_mask,
    truth_ap,
    write_images,
    write_json,
)
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from instance_seg_common.config import add_common_config
from instance_seg_common.data import register_coco_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.from_config import register_from_config
from instance_seg_common.errors import UserError


def each(change, part="annotations"):
    """A good file with ``change(entry, number)`` done to each entry of a part."""

    def changed():
        content = good_content()
        for number, entry in enumerate(content[part]):
            change(entry, number)
        return content

    return changed


def without(*keys):
    return each(lambda entry, _: [entry.pop(key) for key in keys])


def setting(key, value, part="annotations"):
    """A good file in which a key has the values of a function of the entry and its number."""
    return each(lambda entry, number: entry.__setitem__(key, value(entry, number)), part)


def mask_form(form):
    """A good file with ``form(square)`` as each segmentation."""
    squares = all_squares()
    return setting("segmentation", lambda _, number: form(squares[number]))


def encoding(square, **changes):
    return {"size": list(SIZE), "counts": run_text(square_mask(square)), **changes}


def counts(square):
    return run_list(square_mask(square))


def mixed_masks():
    squares = all_squares()
    forms = [
        lambda s: [polygon(s)],
        lambda s: encoding(s),
        lambda s: encoding(s, counts=counts(s)),
        lambda s: [encoding(s)],
        lambda s: [encoding(s), polygon(s)],
    ]
    return setting("segmentation", lambda _, number: forms[number](squares[number]))()


def image_ids_as_texts():
    content = setting("id", lambda entry, _: str(entry["id"]), "images")()
    for entry in content["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    return content


def names_as_image_ids():
    content = good_content()
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    for entry in content["images"]:
        entry["id"] = names[entry["id"]]
    for entry in content["annotations"]:
        entry["image_id"] = names[entry["image_id"]]
    return content


def categories_renamed(to_id):
    content = good_content()
    for entry in content["categories"]:
        entry["id"] = to_id(entry["id"])
    for entry in content["annotations"]:
        entry["category_id"] = to_id(entry["category_id"])
    return content


def category_twice():
    content = good_content()
    content["categories"].append(dict(content["categories"][0]))
    return content


def image_twice(**changes):
    """The first image has a second entry, to which its last annotation belongs."""
    content = good_content()
    content["images"].append({**content["images"][0], **changes})
    content["annotations"][2]["image_id"] = content["images"][-1]["id"]
    return content


def rounded(scale):
    return lambda entry, _: [value * scale for value in entry["bbox"]]


def xyxy(entry, _):
    left, top, width, height = entry["bbox"]
    return [left, top, left + width, top + height]


def halves(square):
    """A square as two polygons, with a part of two points beside them."""
    left, top, right, bottom, _ = square
    middle = (left + right) // 2
    parts = [(left, top, middle, bottom, 0), (middle, top, right, bottom, 0)]
    return [*map(polygon, parts), [left, top, right, bottom]]


def points(square):
    numbers = polygon(square)
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2])]


# Name, content, and the kinds of the notices.
VARIANTS = [
    ("good", good_content, set()),
    ("ids from 0", setting("id", lambda _, n: n), {"annotation ids"}),
    ("ids repeated", setting("id", lambda _, n: n // 2 + 1), {"annotation ids"}),
    ("ids as texts", setting("id", lambda _, n: f"x{n}"), {"annotation ids"}),
    ("ids negative", setting("id", lambda _, n: -n - 1), {"annotation ids"}),
    ("ids huge", setting("id", lambda _, n: 10**400 + n), set()),
    ("ids null", setting("id", lambda *_: None), {"annotation ids"}),
    ("ids absent", without("id"), {"annotation ids"}),
    ("no area", without("area"), {"area"}),
    ("area 0", setting("area", lambda *_: 0), {"area"}),
    ("area NaN", setting("area", lambda *_: math.nan), {"area"}),
    ("area as text", setting("area", lambda e, _: str(e["area"])), set()),
    ("no iscrowd", without("iscrowd"), {"iscrowd"}),
    ("iscrowd null", setting("iscrowd", lambda *_: None), {"iscrowd"}),
    ("iscrowd false", setting("iscrowd", lambda *_: False), set()),
    ("iscrowd as text", setting("iscrowd", lambda *_: "0"), {"numbers as texts"}),
    ("ignore 0", setting("ignore", lambda *_: 0), set()),
    ("no bbox", without("bbox"), {"bbox"}),
    ("bbox empty list", setting("bbox", lambda *_: []), {"bbox"}),
    ("bbox as texts", setting("bbox", lambda e, _: list(map(str, e["bbox"]))), set()),
    ("bbox of three", setting("bbox", lambda e, _: e["bbox"][:3]), {"bbox"}),
    ("bbox XYXY", setting("bbox", xyxy), {"box does not fit"}),
    ("bbox as fractions", setting("bbox", rounded(1 / 60)), {"box does not fit"}),
    ("bbox NaN", setting("bbox", lambda *_: [math.nan] * 4), {"bbox"}),
    (
        "only masks",
        without("id", "area", "iscrowd", "bbox"),
        {"annotation ids", "area", "iscrowd", "bbox"},
    ),
    ("image ids as texts", image_ids_as_texts, {"ids"}),
    ("image ids as floats", setting("image_id", lambda e, _: float(e["image_id"])), {"ids"}),
    ("image ids are names", names_as_image_ids, set()),
    (
        "image ids from text to number",
        setting("image_id", lambda e, _: str(e["image_id"])),
        {"ids"},
    ),
    (
        "image size as texts",
        setting("height", lambda e, _: str(e["height"]), "images"),
        {"numbers as texts"},
    ),
    ("category ids as texts", lambda: categories_renamed(str), {"ids"}),
    ("category ids from 0", lambda: categories_renamed(lambda i: i - 1), set()),
    ("category ids with gaps", lambda: categories_renamed(lambda i: 9 * i), set()),
    ("category ids are names", lambda: categories_renamed(lambda i: "ab"[i - 1]), set()),
    ("a category twice", category_twice, {"category twice"}),
    ("an image twice", image_twice, {"image twice"}),
    ("an image with two ids", lambda: image_twice(id=7), {"image twice"}),
    ("compressed", mask_form(encoding), set()),
    ("uncompressed", mask_form(lambda s: encoding(s, counts=counts(s))), set()),
    ("mixed", mixed_masks, {"form of masks"}),
    ("encoding without size", mask_form(lambda s: {"counts": counts(s)}), set()),
    ("encoding in a list", mask_form(lambda s: [encoding(s)]), {"form of masks"}),
    (
        "counts are bytes",
        mask_form(lambda s: encoding(s, counts=repr(run_text(square_mask(s)).encode()))),
        {"form of masks"},
    ),
    (
        "counts with spaces",
        mask_form(lambda s: encoding(s, counts=" ".join(map(str, counts(s))))),
        {"form of masks", "numbers as texts"},
    ),
    (
        "counts as texts",
        mask_form(lambda s: encoding(s, counts=list(map(str, counts(s))))),
        {"numbers as texts"},
    ),
    (
        "counts as floats",
        mask_form(lambda s: encoding(s, counts=list(map(float, counts(s))))),
        {"numbers as texts"},
    ),
    (
        "size as texts",
        mask_form(lambda s: encoding(s, size=list(map(str, SIZE)))),
        {"numbers as texts"},
    ),
    (
        "coordinates as texts",
        mask_form(lambda s: [list(map(str, polygon(s)))]),
        {"numbers as texts"},
    ),
    ("coordinates as floats", mask_form(lambda s: [list(map(float, polygon(s)))]), set()),
    ("a polygon alone", mask_form(polygon), {"form of masks"}),
    ("a list too many", mask_form(lambda s: [[polygon(s)]]), {"form of masks"}),
    ("points", mask_form(points), {"form of masks"}),
    ("points in a list", mask_form(lambda s: [points(s)]), {"form of masks"}),
    ("JSON in a text", mask_form(lambda s: json.dumps([polygon(s)])), {"form of masks"}),
    (
        "numbers in a text",
        mask_form(lambda s: ", ".join(map(str, polygon(s)))),
        {"form of masks", "numbers as texts"},
    ),
    (
        "a text in a list",
        mask_form(lambda s: [" ".join(map(str, polygon(s)))]),
        {"form of masks", "numbers as texts"},
    ),
    ("several parts", mask_form(halves), {"parts of masks"}),
    ("only needed keys", lambda: {**good_content(), "info": None, "licenses": "x"}, set()),
]


@pytest.fixture
def registered(fresh_name, tmp_path):
    """Function of a content: the name of the data set."""
    write_images(tmp_path / "images")

    def register(content, **options):
        path = write_json(tmp_path / "set.json", content)
        register_coco_dataset(fresh_name, path, tmp_path / "images", **options)
        return fresh_name

    return register


@pytest.mark.parametrize(
    ("make", "notices"), [v[1:] for v in VARIANTS], ids=[v[0].replace(" ", "_") for v in VARIANTS]
)
def test_a_variant_is_the_same_data_set(registered, make, notices):
    name = registered(make())
    report = check_dataset(name)
    assert report.ok, report.text()
    assert {finding.kind for finding in report.notices} == notices
    assert report.instances_per_image == [3, 2]
    assert_masks(name)
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert truth_ap(name) == (pytest.approx(100), pytest.approx(100))
    assert MetadataCatalog.get(name).json_file.endswith("set.json")


def test_counts_of_a_notice(registered):
    report = check_dataset(registered(setting("id", lambda _, n: n)()))
    (notice,) = report.notices
    assert "from 1 on: 1 (first: 0)" in notice.sentence and "set.json" in notice.sentence


def test_notices_are_logged_once(registered, caplog):
    name = registered(without("area")())
    with caplog.at_level("INFO"):
        for _ in range(3):
            DatasetCatalog.get(name)
    assert sum("area of the mask" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("name", ["ids from 0", "ids repeated", "no area", "no iscrowd", "no bbox"])
def test_stock_registration_is_scored_right_too(fresh_name, tmp_path, name):
    (make,) = [variant[1] for variant in VARIANTS if variant[0] == name]
    write_images(tmp_path)
    register_coco_instances(
        fresh_name, {}, str(write_json(tmp_path / "s.json", make())), str(tmp_path)
    )
    if name == "ids repeated":  # its loader refuses them
        with pytest.raises(UserError):
            truth_ap(fresh_name)
    else:
        assert truth_ap(fresh_name)[0] == pytest.approx(100)


# Name, content, the kind of the error, words of its sentence.
UNREADABLE = [
    (
        "NaN",
        mask_form(lambda s: [[math.nan, *polygon(s)[1:]]]),
        "polygon malformed",
        "nan, which is no number",
    ),
    (
        "a word",
        mask_form(lambda s: [["x", *polygon(s)[1:]]]),
        "polygon malformed",
        "'x', which is no number",
    ),
    (
        "true",
        mask_form(lambda s: [[True, *polygon(s)[1:]]]),
        "polygon malformed",
        "True, which is no number",
    ),
    ("odd", mask_form(lambda s: [polygon(s)[:7]]), "polygon malformed", "7 numbers; of x, y"),
    (
        "infinite",
        mask_form(lambda s: [[math.inf, *polygon(s)[1:]]]),
        "polygon malformed",
        "inf, which is no",
    ),
    (
        "fractions",
        mask_form(lambda s: [[v / 60 for v in polygon(s)]]),
        "no usable annotation",
        "fractions of the image",
    ),
    (
        "negative counts",
        mask_form(lambda s: encoding(s, counts=[-1, 2401])),
        "mask malformed",
        "[-1, 2401]",
    ),
    ("counts too few", mask_form(lambda s: encoding(s, counts=[1, 2])), "mask cut off", "3 pixels"),
    (
        "counts of a kind",
        mask_form(lambda s: encoding(s, counts={"a": 1})),
        "mask malformed",
        "{'a': 1}",
    ),
    (
        "text too short",
        mask_form(lambda s: encoding(s, counts="0")),
        "mask cut off",
        "not 2400",
    ),
    (
        "text of others",
        mask_form(lambda s: encoding(s, counts="\u00e9~")),
        "mask malformed",
        "COCO's text",
    ),
    (
        "other size",
        mask_form(lambda s: encoding(s, size=[60, 40])),
        "mask size differs",
        "[60, 40]",
    ),
    (
        "claimed size",
        mask_form(lambda s: encoding(s, size=[10**6, 10**6])),
        "mask size differs",
        "1000000",
    ),
    (
        "huge counts",
        mask_form(lambda s: encoding(s, counts=[10**4000, 1])),
        "mask cut off",
        "not 2400",
    ),
    (
        "deep",
        mask_form(lambda s: [[[[[[polygon(s)]]]]]]),
        "polygon malformed",
        "not a list of lists",
    ),
    ("iscrowd 2", setting("iscrowd", lambda *_: 2), "iscrowd malformed", "2, neither 0 nor 1"),
    ("unknown class", setting("category_id", lambda *_: 9), "class out of range", "category 9"),
    ("no class", without("category_id"), "class out of range", "category None"),
    ("all crowds", setting("iscrowd", lambda *_: 1), "only crowds", "crowds: objects"),
    (
        "no height",
        each(lambda e, _: e.pop("height"), "images"),
        "image entry incomplete",
        "lacks height",
    ),
    (
        "another image of the id",
        lambda: image_twice(file_name="b.png"),
        "duplicate image id",
        "id 1 occurs",
    ),
    (
        "another size of the file",
        lambda: image_twice(id=7, width=9),
        "duplicate image",
        "two sizes",
    ),
]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [u[1:] for u in UNREADABLE],
    ids=[u[0].replace(" ", "_") for u in UNREADABLE],
)
def test_what_has_no_meaning_is_an_error_of_check_and_loader(registered, make, kind, words):
    name = registered(make())
    found = [finding for finding in check_dataset(name).errors if finding.kind == kind]
    assert found and words in found[0].sentence and "set.json" in found[0].sentence
    if kind not in (
        "only crowds",
        "no usable annotation",
        "duplicate image",
        "duplicate image id",
        "image entry incomplete",
    ):
        assert "annotation 1 of image a.png" in found[0].sentence
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(name)
    assert found[0].sentence in str(caught.value)


def test_annotations_of_no_use_are_left_out_and_the_rest_scores_100(registered, caplog):
    content = good_content()
    base = content["annotations"][0]
    useless = [
        {"segmentation": []},
        {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": [[200, 200, 210, 200, 210, 210]]},
        {"segmentation": {"size": list(SIZE), "counts": [2400]}},
        {"image_id": 99},
    ]
    content["annotations"] += [{**base, "id": 50 + n, **u} for n, u in enumerate(useless)]
    name = registered(content)
    report = check_dataset(name)
    assert [finding.kind for finding in report.errors] == [
        "mask missing",
        "polygon too short",
        "mask empty",
        "mask empty",
        "unknown image",
    ]
    assert_masks(name)
    assert truth_ap(name)[0] == pytest.approx(100)
    (warning,) = [r for r in caplog.records if r.levelname == "WARNING" and name in r.getMessage()]
    assert "5 annotations are without" in warning.getMessage()


def test_crowds_as_objects(registered):
    name = registered(setting("iscrowd", lambda *_: 1)(), crowds="objects")
    assert check_dataset(name).ok
    assert_masks(name)
    assert truth_ap(name)[0] == pytest.approx(100)


def test_crowds_on_purpose(registered):
    name = registered(setting("iscrowd", lambda *_: 1)(), crowds="ignore")
    assert check_dataset(name).ok
    assert all("sem_seg_file_name" in record for record in DatasetCatalog.get(name))


def test_some_crowds_are_a_notice_with_the_way_out(registered):
    name = registered(setting("iscrowd", lambda _, n: int(n == 2))())
    (notice,) = [f for f in check_dataset(name).notices if f.kind == "crowds"]
    assert "1 of the 5 annotations" in notice.sentence and "crowds: objects" in notice.sentence


def test_crowds_of_another_word(fresh_name, tmp_path):
    with pytest.raises(UserError, match="'things'; give 'objects' or 'ignore'"):
        register_coco_dataset(fresh_name, tmp_path / "s.json", tmp_path, crowds="things")


def test_ignore_1_is_a_crowd(registered):
    name = registered(setting("ignore", lambda _, n: int(n == 2))())
    assert {f.kind for f in check_dataset(name).notices} == {"ignore", "crowds"}
    assert [a["iscrowd"] for a in DatasetCatalog.get(name)[0]["annotations"]] == [0, 0, 1]


def test_a_heading_of_categories_is_no_class(registered):
    content = good_content()
    for entry in content["categories"]:
        entry["supercategory"] = "pets"
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    name = registered(content)
    (notice,) = check_dataset(name).notices
    assert "number of classes is 2" in notice.sentence and "'pets'" in notice.sentence
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert_masks(name)
    assert truth_ap(name)[0] == pytest.approx(100)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["annotations"][0].update(category_id=0),  # it has an annotation
        lambda c: c["categories"][1].update(supercategory="others"),
        lambda c: c["categories"][0].update(supercategory="things"),
    ],
)
def test_a_category_that_may_be_a_class_stays_one(registered, change):
    content = good_content()
    for entry in content["categories"]:
        entry["supercategory"] = "pets"
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    change(content)
    assert MetadataCatalog.get(registered(content)).thing_classes == ["pets", "cat", "dog"]


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "both 'cat' and 'dog'"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}], "ids 1 and 2"),
        ([{"id": 1}], "lacks an 'id'"),
        ([{"name": "cat"}], "lacks an 'id'"),
        ([{"id": True, "name": "cat"}], "lacks an 'id'"),
    ],
)
def test_categories_without_a_meaning(registered, categories, words):
    name = registered({**good_content(), "categories": categories})
    (error,) = check_dataset(name).errors
    assert words in error.sentence and "set.json" in error.sentence
    for use in (DatasetCatalog.get, lambda n: MetadataCatalog.get(n).thing_classes):
        with pytest.raises(UserError, match=words):
            use(name)


def test_keypoints_are_handed_on_as_detectron2_does(registered):
    content = good_content()
    content["annotations"][0]["keypoints"] = [4, 5, 2, "6", 7, 1]
    content["annotations"][1]["keypoints"] = [1, 2]
    name = registered(content)
    assert {f.kind for f in check_dataset(name).notices} == {"keypoints"}
    first, second, _ = DatasetCatalog.get(name)[0]["annotations"]
    assert first["keypoints"] == [4.5, 5.5, 2, 6.5, 7.5, 1] and "keypoints" not in second


def test_crowds_in_yaml(fresh_name, tmp_path):
    write_images(tmp_path / "images")
    path = write_json(tmp_path / "set.json", setting("iscrowd", lambda *_: 1)())
    cfg = get_cfg()
    add_common_config(cfg)
    entry = {"name": fresh_name, "format": "coco", "json_file": str(path)}
    entry = {**entry, "image_dir": str(tmp_path / "images"), "crowds": "objects"}
    cfg.DATASETS.REGISTER = [entry]
    register_from_config(cfg)
    assert_masks(fresh_name)
    cfg.DATASETS.REGISTER = [{**entry, "crowds": "ignore"}]
    with pytest.raises(UserError, match="crowds was objects and is now ignore"):
        register_from_config(cfg)
