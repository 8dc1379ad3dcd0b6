"""Run lengths and label maps of pieces, against dense masks."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image

from instance_seg_common.masks import instances_to_label_map
from instance_seg_common.prediction import label_map_files
from instance_seg_common.prediction import objects as objects_module
from instance_seg_common.prediction.label_map_files import write_label_map
from instance_seg_common.prediction.objects import encode, label_map_bands, without_overlaps
from instance_seg_common.tiling.stitching import Piece, StitchedObject
from instance_seg_common.tiling.tiles import Box


def cut_in_pieces(mask, rng):
    """A mask as pieces: cut at random rows and columns."""
    rows = [0, *sorted(rng.integers(1, mask.shape[0], 2)), mask.shape[0]]
    columns = [0, *sorted(rng.integers(1, mask.shape[1], 2)), mask.shape[1]]
    pieces = []
    for top, bottom in zip(rows, rows[1:]):
        for left, right in zip(columns, columns[1:]):
            box = Box(int(top), int(left), int(bottom), int(right))
            piece = Piece(box, mask[box.slices]).tightened()
            if piece.mask.size:
                pieces.append(piece)
    rng.shuffle(pieces)
    return pieces


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_the_dense_mask(density, seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(3, 40, 2))
    mask = rng.random(size) < density
    expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    encoding = encode(cut_in_pieces(mask, rng), size)
    assert encoding["size"] == list(size)
    assert encoding["counts"].encode() == expected["counts"]


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_bands_are_the_label_map_with_the_best_on_top(rows):
    rng = np.random.default_rng(3)
    size, objects = (61, 50), []
    expected, best = np.zeros(size, int), np.full(size, -1.0)
    for number in range(1, 30):
        mask = np.zeros(size, bool)
        top, left = rng.integers(0, 50), rng.integers(0, 40)
        mask[top : top + 12, left : left + 9] = True
        score = float(rng.integers(0, 6)) / 5  # many are equal: the first of them wins
        on_top = mask & (score > best)
        expected[on_top], best[on_top] = number, score
        objects.append(StitchedObject(tuple(cut_in_pieces(mask, rng)), score, 0))
    bands = list(label_map_bands(objects, size, rows=rows, dtype=np.dtype(np.uint16)))
    assert all(band.dtype == np.uint16 and len(band) <= rows for band in bands)
    np.testing.assert_array_equal(np.concatenate(bands), expected)


def random_objects(rng, size, count):
    """Rectangles that overlap: dense masks, scores with many equal ones, and as pieces."""
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        top, left = rng.integers(0, size[0] - 5), rng.integers(0, size[1] - 5)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = True
    scores = rng.integers(0, 6, count) / 5
    pieces = [tuple(cut_in_pieces(mask, rng)) for mask in masks]
    return masks, scores, [StitchedObject(p, float(s), 0) for p, s in zip(pieces, scores)]


@pytest.mark.parametrize(("threshold", "min_area"), [(0.0, 0), (0.5, 0), (0.2, 9), (2.0, 0)])
def test_objects_without_overlaps_are_those_of_the_label_map(threshold, min_area, monkeypatch):
    monkeypatch.setattr(objects_module, "BAND", 16)
    masks, scores, objects = random_objects(np.random.default_rng(5), (61, 50), 40)
    dense = Instances((61, 50), pred_masks=torch.as_tensor(masks), scores=torch.as_tensor(scores))
    expected = instances_to_label_map(dense, threshold, min_area)
    kept = without_overlaps(objects, (61, 50), score_threshold=threshold, min_area=min_area)
    (labels,) = label_map_bands(kept, (61, 50), rows=61, dtype=np.dtype(int))
    np.testing.assert_array_equal(labels, expected)
    assert [one.score for one in kept] == sorted((one.score for one in kept), reverse=True)


def dots(count, width):
    """One pixel for each object, row by row."""
    pixel = np.ones((1, 1), bool)
    places = [divmod(index, width) for index in range(count)]
    return [StitchedObject((Piece(Box(y, x, y + 1, x + 1), pixel),), 0.9, 0) for y, x in places]


@pytest.mark.parametrize(("count", "ending"), [(0, ".png"), (65_535, ".png"), (65_536, ".tif")])
def test_no_id_is_too_large_for_the_file(tmp_path, count, ending):
    import tifffile

    path = write_label_map(tmp_path / "a.b", dots(count, 700), (600, 700))
    assert path == tmp_path / f"a.b{ending}"
    labels = np.asarray(Image.open(path)) if ending == ".png" else tifffile.imread(path)
    expected = np.arange(1, 600 * 700 + 1)
    expected[count:] = 0
    np.testing.assert_array_equal(labels, expected.reshape(600, 700))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing temporary


def test_large_images_are_tiled_tiff(tmp_path, monkeypatch):
    import tifffile

    monkeypatch.setattr(label_map_files, "LARGEST_PNG", 1000)
    path = write_label_map(tmp_path / "a", dots(3, 700), (600, 700))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].is_tiled and file.pages[0].dtype == np.uint32
        assert file.asarray()[0, :4].tolist() == [1, 2, 3, 0]
