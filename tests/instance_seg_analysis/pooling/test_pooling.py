import numpy as np
import pytest

from instance_seg_analysis.pooling import objects as pooled
from instance_seg_analysis.pooling import offsets as pooling


@pytest.mark.parametrize("stride", [4, 16])
def test_roi_align_reads_where_the_box_is(stride):
    offsets = pooling.pooling_offsets("ROIAlignV2", np.linspace(0, 2, 41), stride=stride)
    assert offsets.shape == (41, 7)
    assert np.abs(offsets).max() < 1e-3


def test_unaligned_roi_align_is_half_a_cell_beside():
    offsets = pooling.pooling_offsets("ROIAlign", [0.0, 0.3, 0.9], stride=16)
    np.testing.assert_allclose(offsets, 8, atol=1e-3)


def test_roi_pool_jumps_by_cells():
    offsets = pooling.pooling_offsets("ROIPool", np.linspace(0, 1, 64, endpoint=False), stride=16)
    mean = offsets.mean(axis=1)
    # Uniform rounding of an edge has a standard deviation of stride / sqrt(12).
    assert mean.std() > 0.5 * 16 / np.sqrt(12)
    assert np.ptp(mean) > 8


def test_offsets_figure_is_written(tmp_path):
    result = pooling.offsets_figure(tmp_path / "offsets.png")
    assert (tmp_path / "offsets.png").stat().st_size > 5000
    assert result["ROIAlignV2"].std < 0.01 < 1 < result["ROIPool"].std


def maps():
    gt = np.zeros((40, 60), dtype=np.int64)
    gt[5:15, 5:15], gt[5:15, 30:40], gt[25:35, 5:15] = 2, 5, 9
    align, pool = np.roll(gt, 1, axis=1), np.roll(gt, 2, axis=1)
    pool[pool == 9] = 0
    return pooled.LabelMaps(gt, align, pool)


def test_objects_under_both_models():
    objects = {o.gt_id: o for o in pooled.compare_objects(3, maps())}
    assert set(objects) == {2, 5, 9}
    assert objects[2] == pooled.ObjectComparison(
        3, 2, 100, pytest.approx(90 / 110), pytest.approx(80 / 120)
    )
    assert objects[9].iou_pool == 0


def test_choice_is_of_small_objects_found_by_both():
    def item(gt_id, area, align, pool):
        return pooled.ObjectComparison(0, gt_id, area, align, pool)

    objects = [item(1, 50, 0.9, 0.6), item(2, 50, 0.8, 0.79), item(3, 5000, 0.9, 0.5),
               item(4, 50, 0.9, 0.3), item(5, 50, 0.7, 0.85)]  # fmt: skip
    largest, random = pooled.choose_objects(objects, 2, 1000)
    assert [o.gt_id for o in largest] == [1, 5]
    assert [o.gt_id for o in random] == [2]


def test_tiles_show_all_three_contours_also_at_the_rim():
    rolled = pooled.LabelMaps(*(np.roll(m, (-5, -5), axis=(0, 1)) for m in maps()))
    image = np.full((*rolled.truth.shape, 3), 90, dtype=np.uint8)
    items = pooled.compare_objects(0, rolled)
    tiles = [pooled.object_tile(image, rolled, item) for item in items]
    assert len({tile.shape for tile in tiles}) == 1
    picture = pooled.comparison_picture([("all", tiles), ("none", [])], columns=2)
    for color in (pooled.ALIGN_COLOR, pooled.POOL_COLOR, pooled.TRUTH_COLOR):
        assert (picture[60:-30] == color).all(axis=2).any()
