"""Masks after augmentations, against Detectron2's own transform of one full mask after another."""

import numpy as np
import pytest
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from pycocotools import mask as mask_util

from instance_seg_common.data import cut_annotations
from instance_seg_common.data.cut_annotations import transformed_instances
from instance_seg_common.masks import CutMasks, cut_masks

HEIGHT, WIDTH = 45, 60
SIZE = (HEIGHT, WIDTH)


def random_masks(seed, count=12, size=SIZE):
    """Overlapping rectangles with holes, one over everything, one of a single pixel, one empty."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((count + 3, *size), dtype=bool)
    for mask in masks[:count]:
        y, x = generator.integers(0, size[0] - 2), generator.integers(0, size[1] - 2)
        mask[y : y + generator.integers(1, 20), x : x + generator.integers(1, 25)] = True
        mask &= generator.random(size) < 0.8
    masks[count] = True
    masks[count + 1, -1, -1] = True
    return masks


def encoded(mask, kind):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    if kind == "bytes":
        return rle
    if kind == "text":
        return {**rle, "counts": rle["counts"].decode()}
    if kind == "list":
        flat = mask.T.ravel()
        bounds = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
        return {"size": list(mask.shape), "counts": np.diff([0, *bounds, flat.size]).tolist()}
    return mask


def annotation(segmentation, number, box=(0, 0, WIDTH, HEIGHT)):
    return {
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": number % 5,
        "segmentation": segmentation,
    }


TRANSFORMS = {
    "nothing": [T.NoOpTransform()],
    "crop": [T.CropTransform(17, 8, 30, 20)],
    "colour, crop": [T.NoOpTransform(), T.BlendTransform(0, 0.5, 0.5), T.CropTransform(3, 9, 9, 7)],
    "flip": [T.HFlipTransform(WIDTH)],
    "vertical flip, crop": [T.VFlipTransform(HEIGHT), T.CropTransform(0, 0, 20, 20)],
    "crop, flip": [T.CropTransform(17, 8, 30, 20), T.HFlipTransform(30)],
    "resize": [T.ResizeTransform(HEIGHT, WIDTH, 71, 83)],
    "squash": [T.ResizeTransform(HEIGHT, WIDTH, 20, 20)],
    "crop, resize": [T.CropTransform(11, 2, 33, 30), T.ResizeTransform(30, 33, 64, 64)],
    "resize, crop": [T.ResizeTransform(HEIGHT, WIDTH, 90, 120), T.CropTransform(50, 40, 32, 32)],
    "two crops": [T.CropTransform(5, 5, 40, 30), T.CropTransform(20, 10, 15, 15)],
    "quarter turn, crop": [
        T.RotationTransform(HEIGHT, WIDTH, 90),
        T.CropTransform(5, 10, 30, 30),
    ],
    "turn": [T.RotationTransform(HEIGHT, WIDTH, 33)],
    "turn, crop, flip": [
        T.RotationTransform(HEIGHT, WIDTH, 217),
        T.CropTransform(10, 10, 25, 25),
        T.HFlipTransform(25),
    ],
    "extent": [T.ExtentTransform((-5, 10, 40, 52), (30, 31))],
    "pad": [T.PadTransform(3, 4, 5, 6)],
}


def detectron2(annotations, transforms, size):
    """Detectron2's transforms of full masks; of an object without a pixel nothing is left."""
    masks = []
    for item in annotations:
        dense = detection_utils.transform_instance_annotations(dict(item), transforms, size)
        masks.append(np.asarray(dense["segmentation"]) > 0)
    kept = [i for i, mask in enumerate(masks) if mask.any()]
    stack = torch.from_numpy(np.stack([masks[i] for i in kept]))
    return stack, [annotations[i]["category_id"] for i in kept]


@pytest.mark.parametrize("kind", ["bytes", "text", "list", "dense"])
@pytest.mark.parametrize("steps", TRANSFORMS.values(), ids=TRANSFORMS)
def test_masks_classes_boxes_and_order_are_those_of_detectron2(steps, kind):
    transforms = T.TransformList(steps)
    size = transforms.apply_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).shape[:2]
    for seed in range(3):
        masks = random_masks(seed)
        truth = [annotation(encoded(mask, "bytes"), i) for i, mask in enumerate(masks)]
        expected, classes = detectron2(truth, transforms, size)
        given = [annotation(encoded(mask, kind), i) for i, mask in enumerate(masks)]
        result = transformed_instances(given, transforms, size, mask_format="bitmask")
        assert torch.equal(result.gt_masks.tensor, expected)
        assert result.gt_classes.tolist() == classes
        assert torch.equal(result.gt_boxes.tensor, BitMasks(expected).get_bounding_boxes().tensor)
        assert result.gt_boxes.tensor.dtype == torch.float32


POLYGONS = [
    [[5.0, 5.0, 25.5, 7.0, 20.0, 30.5]],
    [[0.0, 0.0, 60.0, 0.0, 60.0, 45.0, 0.0, 45.0]],
    [[30.2, 3.1, 58.9, 3.1, 58.9, 20.0], [2.0, 40.0, 12.0, 40.0, 12.0, 44.9, 2.0, 44.9]],
]


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
@pytest.mark.parametrize("name", ["nothing", "flip", "resize", "turn"])
def test_polygons_without_a_crop_are_as_detectron2_has_them(name, mask_format):
    transforms = T.TransformList(TRANSFORMS[name])
    size = transforms.apply_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).shape[:2]
    objects = [annotation(polygons, i) for i, polygons in enumerate(POLYGONS)]
    moved = [
        detection_utils.transform_instance_annotations(dict(a), transforms, size) for a in objects
    ]
    expected = detection_utils.annotations_to_instances(moved, size, mask_format=mask_format)
    result = transformed_instances(objects, transforms, size, mask_format=mask_format)
    assert result.gt_classes.tolist() == [0, 1, 2]
    if mask_format == "bitmask":
        assert torch.equal(result.gt_masks.tensor, expected.gt_masks.tensor)
    else:
        assert isinstance(result.gt_masks, PolygonMasks)
        for ours, theirs in zip(result.gt_masks.polygons, expected.gt_masks.polygons):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs))


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
@pytest.mark.parametrize("name", [n for n in TRANSFORMS if "crop" in n])
def test_polygons_become_masks_before_a_crop(name, mask_format):
    steps = TRANSFORMS[name]
    first = next(i for i, step in enumerate(steps) if isinstance(step, T.CropTransform))
    before, after = T.TransformList(steps[:first]), T.TransformList(steps[first:])
    shape = before.apply_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).shape[:2]
    size = after.apply_image(np.zeros((*shape, 3), np.uint8)).shape[:2]
    expected = []
    for polygons in POLYGONS:
        corners = [np.asarray(p).reshape(-1, 2) for p in polygons]
        moved = [p.reshape(-1).tolist() for p in before.apply_polygons(corners)]
        mask = mask_util.decode(mask_util.merge(mask_util.frPyObjects(moved, *shape)))
        expected.append(after.apply_segmentation(mask) > 0)
    expected = torch.from_numpy(np.stack([mask for mask in expected if mask.any()]))
    objects = [annotation(polygons, i) for i, polygons in enumerate(POLYGONS)]
    result = transformed_instances(objects, T.TransformList(steps), size, mask_format=mask_format)
    assert torch.equal(result.gt_masks.tensor, expected)


def test_polygons_and_run_lengths_may_be_mixed_and_crowds_are_passed_over():
    masks = random_masks(0)
    objects = [annotation(POLYGONS[0], 0), annotation(encoded(masks[0], "text"), 1)]
    objects.append({**annotation(POLYGONS[2], 2), "iscrowd": 1})
    objects.append(annotation(POLYGONS[2], 3))
    transforms = T.TransformList([T.NoOpTransform()])
    result = transformed_instances(objects, transforms, SIZE, mask_format="bitmask")
    assert result.gt_classes.tolist() == [0, 1, 3]
    assert torch.equal(result.gt_masks.tensor[1], torch.from_numpy(masks[0]))


def test_a_wrong_box_of_an_annotation_does_not_hide_its_mask():
    mask = np.zeros(SIZE, dtype=bool)
    mask[10:20, 10:20] = True
    item = annotation(encoded(mask, "text"), 0, box=(50, 40, 55, 44))
    transforms = T.TransformList([T.CropTransform(5, 5, 20, 20)])
    result = transformed_instances([item], transforms, (20, 20), mask_format="bitmask")
    assert result.gt_boxes.tensor.tolist() == [[5, 5, 15, 15]]


def test_an_image_without_objects_in_its_crop_has_no_objects():
    item = annotation(encoded(random_masks(0)[-2], "text"), 0)
    transforms = T.TransformList([T.CropTransform(0, 0, 10, 10)])
    result = transformed_instances([item], transforms, (10, 10), mask_format="bitmask")
    assert len(result) == 0
    assert result.gt_masks.tensor.shape == (0, 10, 10)


def grid_of_squares(side, step, width):
    """Run lengths of squares of ``width`` pixels, one every ``step`` pixels."""
    items = []
    for y in range(0, side - width, step):
        for x in range(0, side - width, step):
            rows = np.arange(x, x + width)[:, None] * side + [y, y + width]
            counts = np.diff([0, *rows.ravel().tolist(), side * side])
            items.append({"size": [side, side], "counts": counts.tolist()})
    encodings = [mask_util.frPyObjects(item, side, side) for item in items]
    return [annotation(rle, i) for i, rle in enumerate(encodings)]


@pytest.mark.parametrize("turned", [False, True])
def test_what_lies_outside_of_a_crop_is_not_decoded_and_nothing_large_is_kept(turned, monkeypatch):
    objects = grid_of_squares(1024, step=20, width=12)
    assert len(objects) == 2601
    windows = []
    original = cut_annotations.decode_window
    monkeypatch.setattr(
        cut_annotations, "decode_window", lambda *a: windows.append(original(*a)) or windows[-1]
    )
    steps = [T.RotationTransform(1024, 1024, 90)] if turned else []
    transforms = T.TransformList([*steps, T.CropTransform(512, 512, 64, 64)])
    result = transformed_instances(objects, transforms, (64, 64), mask_format="bitmask")
    assert 9 <= len(result) <= 16
    assert len(windows) <= 25
    assert sum(window.size for window in windows) <= 25 * 12 * 12
    assert result.gt_masks.tensor.untyped_storage().nbytes() == len(result) * 64 * 64


def test_a_crowd_too_large_for_a_tensor_is_kept_in_windows(monkeypatch):
    objects = grid_of_squares(512, step=20, width=12)
    transforms = T.TransformList([T.NoOpTransform()])
    dense = transformed_instances(objects, transforms, (512, 512), mask_format="bitmask")
    monkeypatch.setattr(cut_masks, "DENSE_PIXELS", 10**6)
    result = transformed_instances(objects, transforms, (512, 512), mask_format="bitmask")
    assert isinstance(result.gt_masks, CutMasks)
    assert result.gt_masks.pixels.untyped_storage().nbytes() == len(objects) * 12 * 12
    assert torch.equal(result.gt_masks.tensor, dense.gt_masks.tensor)
    assert torch.equal(result.gt_boxes.tensor, dense.gt_boxes.tensor)
