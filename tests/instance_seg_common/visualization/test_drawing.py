import numpy as np
import pytest
from PIL import Image

from instance_seg_common.visualization import drawing


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), 2),
        ((128, 128), 4),
        ((480, 640), 1),
        ((1040, 1388), 1000 / 1388),
        ((900, 60), 1),
    ],
)
def test_display_scale(size, expected):
    assert drawing.display_scale(*size) == pytest.approx(expected)


def test_resized_labels_hold_the_same_ids():
    labels = np.array([[0, 70000], [3, 9]])
    large = drawing.resize_labels(labels, 5)
    assert large.shape == (10, 10)
    assert set(np.unique(large)) == {0, 3, 9, 70000}


def test_boundaries_lie_inside_and_separate_touching_instances():
    labels = np.zeros((10, 12), dtype=np.int64)
    labels[2:8, 2:6] = 1
    labels[2:8, 6:10] = 2
    edge = drawing.boundaries(labels)
    assert not edge[labels == 0].any()
    assert edge[4, 5] and edge[4, 6]
    assert not edge[4, 4]
    assert drawing.boundaries(labels, thickness=2)[4, 4]


def test_boundary_of_a_full_picture_is_empty():
    assert not drawing.boundaries(np.ones((5, 5), dtype=np.int64)).any()


def test_dark_images_are_stretched_and_bright_ones_kept():
    dark = np.full((20, 20, 3), 20, dtype=np.uint8)
    stretched, changed = drawing.brighten(dark)
    assert changed and stretched.min() > 150
    bright = np.full((20, 20, 3), 200, dtype=np.uint8)
    kept, changed = drawing.brighten(bright)
    assert not changed and (kept == bright).all()


def test_one_bright_speck_does_not_keep_objects_in_the_dark():
    image = np.full((50, 50, 3), 5, dtype=np.uint8)
    image[:, :10] = 30
    image[:2, -10:] = 255
    stretched, changed = drawing.brighten(image)
    assert changed and 75 < stretched[20, 5, 0] < 120 and stretched[0, -1, 0] == 255


def test_overlay_tints_inside_and_leaves_the_rest():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    labels = np.zeros((8, 8), dtype=np.int64)
    labels[2:6, 2:6] = 1
    colors = np.array([[0, 0, 0], [200, 0, 0]], dtype=np.uint8)
    result = drawing.overlay_labels(image, labels, colors, alpha=0.5)
    assert tuple(result[3, 3]) == (150, 50, 50)
    assert tuple(result[2, 2]) == (200, 0, 0)
    assert tuple(result[0, 0]) == (100, 100, 100)
    assert (image == 100).all()


def test_side_by_side_breaks_long_legends_into_lines():
    panel = np.zeros((30, 120, 3), dtype=np.uint8)
    short = drawing.side_by_side([("a", panel), ("b", panel)], legend=[("x", (255, 0, 0))])
    long = drawing.side_by_side(
        [("a", panel), ("b", panel)], legend=[("a long text " * 2, None)] * 4
    )
    assert short.shape[1] == long.shape[1] == 240 + drawing.GAP
    assert long.shape[0] > short.shape[0]


def test_long_names_keep_both_ends():
    font = drawing._font(14)
    fitted = drawing._fit("plate_03_well_A1_field_0001_channel_2.png", font, 150)
    assert fitted.startswith("plate") and fitted.endswith("2.png") and font.getlength(fitted) <= 150


def test_boxes_and_tags_beyond_the_rim_are_cut():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    boxes = np.array([[-5.0, -5.0, 40.0, 10.0], [3.0, 3.0, 3.0, 3.0]])
    drawn = drawing.draw_boxes(image, boxes, [(255, 0, 0), (0, 255, 0)])
    assert drawn[9, 5, 0] == 255
    assert drawing.draw_tags(image, [(90, -3, "far away", (255, 255, 255))]).shape == image.shape


def test_real_images_with_sixty_nuclei(shared_data):
    """Contours of touching nuclei stay apart: every nucleus keeps a visible inside."""
    path = sorted((shared_data / "dsb2018" / "val" / "labels").glob("*.png"))[20]
    labels = np.asarray(Image.open(path)).astype(np.int64)
    scale = drawing.display_scale(*labels.shape)
    large = drawing.resize_labels(labels, scale)
    inside = large[~drawing.boundaries(large)]
    big = [i for i in np.unique(labels) if i and (labels == i).sum() >= 30]
    assert len(big) > 30 and set(big) <= set(np.unique(inside))
