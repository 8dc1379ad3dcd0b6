"""Synthetic sets: pinned pictures, masks of what is visible, a cache of complete entries."""

import hashlib
import os
import shutil
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image
from pycocotools import mask as mask_util

from instance_seg_common.data.cache import cache_root
from instance_seg_common.data.synthetic import (
    NAMED_SETS,
    dataset,
    load_synthetic,
    register_synthetic_dataset,
    render,
    resolve_parameters,
)
from instance_seg_common.data.synthetic.dataset import image_record, rendered_folder
from instance_seg_common.data.synthetic.outlines import Outline, disc_distance, star_distance
from instance_seg_common.data.synthetic.rendering import Layout, place
from instance_seg_common.errors import UserError
from otsu_watershed.arch import OtsuSettings, OtsuWatershed

# Published figures rest on these pictures. They are never eased later: a set that is too hard or
# too easy for some purpose gets a sibling under a new name, and these stay as they are.
APPEARANCE = {"min_area": 40, "tint": 0.1, "background": 0.12, "noise": 0.05}
SHAPES = {
    **APPEARANCE,
    "kind": "shapes",
    "min_visible": 0.4,
    "contrast": (0.11, 0.32),
    "texture": 0.1,
    "outline": 0.12,
    "aspect": (0.45, 1.0),
}
STICKS = {
    **APPEARANCE,
    "kind": "sticks",
    "min_visible": 0.6,
    "contrast": (0.16, 0.36),
    "texture": 0.04,
    "outline": 0.15,
    "paired": 0.8,
    "jitter": 0.02,
    "tilt": (25.0, 65.0),
}
SHAPES_128 = {**SHAPES, "image_size": 128, "objects": (4, 12), "size": (0.1, 0.34)}
SHAPES_256 = {**SHAPES, "image_size": 256, "objects": (6, 20), "size": (0.06, 0.24)}
STICKS_128 = {
    **STICKS,
    "image_size": 128,
    "objects": (4, 12),
    "size": (0.3, 0.6),
    "width": (0.032, 0.046),
}
STICKS_256 = {
    **STICKS,
    "image_size": 256,
    "objects": (6, 14),
    "size": (0.2, 0.45),
    "width": (0.018, 0.028),
}
# name: (parameters, images, seed, digest of the first image and label map)
PINNED = {
    "synthetic_shapes_train": (SHAPES_128, 600, 1001, "fae32acaf5269204"),
    "synthetic_shapes_val": (SHAPES_128, 100, 1002, "5d5e505399fbab8a"),
    "synthetic_sticks_train": (STICKS_128, 600, 2001, "a80bf4991d9a03d8"),
    "synthetic_sticks_val": (STICKS_128, 100, 2002, "abdf3220f6b541fc"),
    "synthetic_shapes_256_train": (SHAPES_256, 300, 3001, "1ca950f43396c187"),
    "synthetic_shapes_256_val": (SHAPES_256, 100, 3002, "13e1d13f703abfd1"),
    "synthetic_sticks_256_train": (STICKS_256, 300, 4001, "40ea497407852e83"),
    "synthetic_sticks_256_val": (STICKS_256, 100, 4002, "481f50900985d139"),
}
SMALL = {"num_images": 4, "image_size": 64, "seed": 5, "objects": (2, 5)}


@pytest.fixture
def catalog():
    """A function that registers a set under a name that is forgotten after the test."""
    names = []

    def register(name, **parameters):
        names.append(name)
        register_synthetic_dataset(name, **parameters)
        return name

    yield register
    for name in set(names) & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def _rendered_sets():
    folder = cache_root() / "synthetic"
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


class TestNamedSets:
    def test_pins_cover_every_set(self):
        assert set(NAMED_SETS) == set(PINNED)

    @pytest.mark.parametrize("name", PINNED)
    def test_parameters_are_pinned(self, name):
        parameters, num_images, seed, _ = PINNED[name]
        expected = {**parameters, "num_images": num_images, "seed": seed}
        assert asdict(resolve_parameters(**NAMED_SETS[name])) == expected

    @pytest.mark.parametrize("name", PINNED)
    def test_first_picture_is_pinned(self, name):
        image, labels, _ = render(resolve_parameters(**NAMED_SETS[name]), 0)
        pixels = image.tobytes() + labels.astype("<u2").tobytes()
        assert hashlib.sha256(pixels).hexdigest()[:16] == PINNED[name][3]

    def test_train_and_val_share_no_stream(self):
        assert len({parameters["seed"] for parameters in NAMED_SETS.values()}) == len(NAMED_SETS)
        first = [
            {
                render(resolve_parameters(**{**SMALL, "seed": seed}), i)[0].tobytes()
                for i in range(4)
            }
            for seed in (1, 2)
        ]
        assert len(first[0] | first[1]) == 8

    @pytest.mark.parametrize("name", [name for name in PINNED if "sticks" in name])
    def test_half_of_all_sticks_share_their_box(self, name):
        parameters = resolve_parameters(**NAMED_SETS[name])
        crowded = total = most = 0
        for index in range(50):
            _, labels, categories = render(parameters, index)
            iou = _pairwise_box_iou(labels, len(categories))
            crowded += int((iou.max(dim=1).values >= 0.7).sum())
            total += len(categories)
            most = max(most, len(categories))
        assert crowded >= 0.5 * total
        assert most >= 8


def _pairwise_box_iou(labels, count):
    boxes = [a["bbox"] for a in image_record(0, labels, [0] * count)["annotations"]]
    boxes = Boxes(torch.tensor(boxes))
    return pairwise_iou(boxes, boxes).fill_diagonal_(0)


class TestRender:
    @pytest.mark.parametrize("kind", ["shapes", "sticks"])
    def test_depends_on_nothing_but_parameters_and_index(self, kind):
        parameters = resolve_parameters(kind, **SMALL)
        np.random.seed(0)
        image, labels, categories = render(parameters, 3)
        after = np.random.uniform()
        np.random.seed(0)
        assert after == np.random.uniform()
        again = render(parameters, 3)
        assert np.array_equal(again[0], image) and np.array_equal(again[1], labels)
        assert again[2] == categories
        assert not np.array_equal(render(parameters, 2)[0], image)

    @pytest.mark.parametrize("kind", ["shapes", "sticks"])
    def test_every_object_keeps_enough_pixels(self, kind):
        parameters = resolve_parameters(kind, seed=3, objects=(6, 12), min_area=50)
        for index in range(5):
            image, labels, categories = render(parameters, index)
            assert image.shape == (128, 128, 3) and image.dtype == np.uint8
            assert labels.dtype == np.uint16 and labels.max() == len(categories) <= 12
            assert np.bincount(labels.ravel())[1:].min() >= 50

    def test_objects_hide_parts_of_earlier_ones(self):
        crowded = resolve_parameters("shapes", objects=(30, 30), min_visible=0.5)
        _, labels, _ = render(crowded, 0)
        touching = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
        assert touching.sum() > 100

    @pytest.mark.parametrize("least, accepted", [(1.0, False), (0.8, False), (0.4, True)])
    def test_min_visible_limits_occlusion(self, least, accepted):
        parameters = resolve_parameters("shapes", min_visible=least)
        first, second = (_disc(30, 30, radius=10), _disc(40, 30, radius=10))
        layout = place(Layout(np.zeros((128, 128), np.uint16), []), [first], parameters)
        placed = place(layout, [second], parameters)
        assert (placed is not None) == accepted
        labels, areas = layout
        assert labels.max() == 1 and len(areas) == 1  # a refused object leaves no trace

    def test_brighter_and_darker_objects(self):
        parameters = resolve_parameters("shapes", seed=2, texture=0.0, outline=0.0)
        brighter = []
        for index in range(10):
            image, labels, categories = render(parameters, index)
            grey = image.mean(-1)
            background = np.median(grey[labels == 0])
            brighter += [grey[labels == i + 1].mean() > background for i in range(len(categories))]
        assert 0.25 < np.mean(brighter) < 0.75

    def test_all_classes_occur(self):
        parameters = resolve_parameters("shapes")
        seen = {category for index in range(6) for category in render(parameters, index)[2]}
        assert seen == {0, 1, 2, 3}

    def test_star_of_three_tips_is_a_triangle(self):
        distance = star_distance(10.0, 3, inner=0.5, turn=0.0)
        # Tips at angle 0 and +-120 degrees: the far side lies at x = -5.
        x, y = np.array([9.9, 10.1, -4.9, -5.1, 0.0]), np.zeros(5)
        assert (distance(x, y) < 0).tolist() == [True, False, True, False, True]
        assert distance(np.array([-7.0]), np.array([0.0])) == pytest.approx(2.0)


def _disc(x, y, radius):
    return Outline(0, (x, y), radius, disc_distance(radius))


class TestRegistration:
    def test_lazy_and_idempotent(self, catalog):
        before = _rendered_sets()
        name = catalog("lazy_set", kind="sticks", **SMALL)
        catalog("lazy_set", kind="sticks", **SMALL)
        assert _rendered_sets() == before
        assert len(DatasetCatalog.get(name)) == 4
        assert len(_rendered_sets()) == len(before) + 1
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == ["stick"] and metadata.evaluator_type == "coco"

    def test_other_parameters_under_the_same_name(self, catalog):
        catalog("taken_set", **SMALL)
        with pytest.raises(UserError, match="taken_set"):
            catalog("taken_set", **{**SMALL, "seed": 6})

    def test_dicts_agree_with_files(self, catalog):
        parameters = resolve_parameters("shapes", **SMALL)
        for record in DatasetCatalog.get(catalog("files_set", kind="shapes", **SMALL)):
            image, labels, classes = render(parameters, record["image_id"])
            assert np.array_equal(np.asarray(Image.open(record["file_name"])), image)
            assert image.shape == (record["height"], record["width"], 3) == (64, 64, 3)
            assert len(record["annotations"]) == len(classes) == labels.max()
            for i, annotation in enumerate(record["annotations"]):
                mask = mask_util.decode(annotation["segmentation"]).astype(bool)
                assert np.array_equal(mask, labels == i + 1)
                assert annotation["category_id"] == classes[i]
                rows, columns = np.nonzero(mask)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert annotation["bbox"] == tight and annotation["iscrowd"] == 0

    @pytest.mark.parametrize(
        "parameters, words",
        [
            ({"kind": "blobs"}, "blobs"),
            ({"kind": "shapes", "width": (0.1, 0.2)}, "width"),
            ({"objects": (5, 2)}, "objects"),
            ({"objects": (0, 2)}, "objects"),
            ({"size": 0.3}, "size"),
            ({"num_images": 0}, "num_images"),
            ({"image_size": 8}, "image_size"),
            ({"seed": -1}, "seed"),
            ({"seed": 2**32}, "seed"),
            ({"min_visible": 1.5}, "min_visible"),
            ({"num_images": "5"}, "num_images"),
            ({"num_images": 2.5}, "num_images.*whole"),
            ({"objects": (1.5, 4)}, "objects.*whole"),
            ({"noise": "much"}, "noise"),
            ({"noise": -0.1}, "noise"),
            ({"noise": float("nan")}, "noise"),
            ({"size": (0.1, 0.2, 0.3)}, "size"),
        ],
    )
    def test_errors_are_sentences(self, parameters, words):
        with pytest.raises(UserError, match=words):
            register_synthetic_dataset("never_registered", **parameters)
        assert "never_registered" not in DatasetCatalog.list()

    def test_lists_from_yaml_are_pairs(self):
        assert resolve_parameters(objects=[2, 3]) == resolve_parameters(objects=(2, 3))


class TestCache:
    def test_second_load_renders_nothing(self, monkeypatch):
        parameters = resolve_parameters("shapes", **{**SMALL, "seed": 11})
        first = load_synthetic(parameters)
        monkeypatch.setattr(dataset, "render", None)
        assert load_synthetic(parameters) == first

    def test_key_covers_parameters_and_version(self, monkeypatch):
        parameters = {**SMALL, "num_images": 1, "seed": 12}
        folders = {rendered_folder(resolve_parameters("shapes", **parameters))}
        folders.add(rendered_folder(resolve_parameters("sticks", **parameters)))
        changed = resolve_parameters("shapes", **parameters, noise=0.0)
        folders.add(rendered_folder(changed))
        monkeypatch.setattr(dataset, "GENERATOR_VERSION", -1)
        folders.add(rendered_folder(changed))
        assert len(folders) == 4

    def test_interrupted_render_leaves_nothing(self, monkeypatch):
        parameters = resolve_parameters("shapes", **{**SMALL, "seed": 13})
        before = _rendered_sets()

        def stop_at_two(parameters, index):
            if index == 2:
                raise KeyboardInterrupt
            return render(parameters, index)

        with monkeypatch.context() as patch:
            patch.setattr(dataset, "render", stop_at_two)
            with pytest.raises(KeyboardInterrupt):
                load_synthetic(parameters)
        assert _rendered_sets() == before
        assert len(load_synthetic(parameters)) == 4

    def test_only_what_is_read_is_written(self):
        folder = rendered_folder(resolve_parameters("shapes", **{**SMALL, "seed": 16}))
        assert sorted(path.name for path in folder.iterdir()) == ["annotations.json", "images"]

    def test_a_killed_render_is_cleared_away_a_day_later(self):
        parameters = resolve_parameters("shapes", **{**SMALL, "seed": 17})
        folder = rendered_folder(parameters)
        shutil.rmtree(folder)
        old, fresh, other = (
            folder.with_name(name)
            for name in (f"{folder.name}-partial-a", f"{folder.name}-partial-b", "x-partial-c")
        )
        for partial in (old, fresh, other):
            (partial / "images").mkdir(parents=True)
        for partial in (old, other):
            os.utime(partial, (time.time() - 90_000,) * 2)
        rendered_folder(parameters)
        assert not old.exists() and fresh.exists() and other.exists()
        for partial in (fresh, other):
            shutil.rmtree(partial)

    def test_two_processes_at_once(self, monkeypatch):
        parameters = resolve_parameters("shapes", **{**SMALL, "seed": 14})
        write_set = dataset._write_set

        def slower_than_another(parameters, folder):
            write_set(parameters, folder)
            other = folder.parent / folder.name.split("-partial-")[0]
            other.mkdir()
            write_set(parameters, other)

        monkeypatch.setattr(dataset, "_write_set", slower_than_another)
        assert len(load_synthetic(parameters)) == 4
        assert not [name for name in _rendered_sets() if "partial" in name]

    def test_full_disk_is_not_taken_for_another_process(self, monkeypatch):
        def no_space(parameters, folder):
            raise OSError("No space left on device")

        monkeypatch.setattr(dataset, "_write_set", no_space)
        with pytest.raises(OSError, match="No space"):
            load_synthetic(resolve_parameters("shapes", **{**SMALL, "seed": 15}))


class TestDifficulty:
    """Otsu and connected components stay below segm AP 20, however classes are judged."""

    @pytest.mark.parametrize("name", [name for name in PINNED if name.endswith("val")])
    def test_threshold_does_not_solve_it(self, name, tmp_path):
        parameters = resolve_parameters(**{**NAMED_SETS[name], "num_images": 25})
        assert _otsu_segm_ap(parameters, f"{name}_one_class", tmp_path) < 20

    def test_threshold_solves_what_is_easy(self, tmp_path):
        easy = {"noise": 0.0, "background": 0.0, "texture": 0.0, "outline": 0.0, "tint": 0.0}
        alone = {**SMALL, "num_images": 10, "objects": (1, 1), "contrast": (0.3, 0.3)}
        parameters = resolve_parameters("shapes", **alone, **easy)
        assert _otsu_segm_ap(parameters, "easy_one_class", tmp_path) > 60


def _otsu_segm_ap(parameters, name, folder):
    """Segm AP with all objects in one class, so that only the masks count."""
    records = load_synthetic(parameters)
    for record in records:
        for annotation in record["annotations"]:
            annotation["category_id"] = 0
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["object"])
    try:
        evaluator = COCOEvaluator(name, ("segm",), False, str(folder), max_dets_per_image=200)
        evaluator.reset()
        model = OtsuWatershed(settings=OtsuSettings(split=False), input_format="RGB").eval()
        for record in records:
            pixels = np.asarray(Image.open(record["file_name"])).transpose(2, 0, 1).copy()
            inputs = [{"image": torch.from_numpy(pixels), "image_id": record["image_id"]}]
            evaluator.process(inputs, model(inputs))
        return evaluator.evaluate()["segm"]["AP"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
