import numpy as np
import pytest
import torch

from instance_seg_analysis.internals import pictures, recurrent
from instance_seg_analysis.methods.base import compute_internals, internals_panel
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import instance_color

HEIGHT, WIDTH = 48, 64
SCALE = 512 // WIDTH
BOXES = [(4, 4, 20, 16), (26, 30, 44, 60), (8, 40, 18, 54), (30, 6, 42, 18)]


def sequence(count, stop=True, classes=3, boxes=BOXES):
    """Boxes (top, left, bottom, right) in turn, and one step to stop."""
    steps = count + stop
    masks = torch.full((steps, HEIGHT, WIDTH), 0.05)
    for mask, (top, left, bottom, right) in zip(masks[:count], boxes * (count // len(boxes) + 1)):
        mask[top:bottom, left:right] = 0.95
    probabilities = torch.full((steps, classes), 0.2 / max(classes - 1, 1))
    probabilities[torch.arange(steps), torch.arange(steps) % classes] = 0.8 if classes > 1 else 1.0
    objectness = torch.tensor([0.9] * count + [0.1] * stop)
    return {
        "masks": masks,
        "class_probabilities": probabilities,
        "objectness": objectness,
        "count": torch.tensor(count),
    }


def image(level=140):
    return np.full((96, 128, 3), level, dtype=np.uint8)


def draw(internals, dataset_dict=None):
    return internals_panel(
        "RecurrentInstanceSeg", image(), internals, dataset_dict=dataset_dict, name="a.png"
    )


@pytest.fixture
def said(monkeypatch):
    """What is written on strips and tags: (text, color)."""
    written, strip, tags = [], drawing.text_strip, drawing.draw_tags
    monkeypatch.setattr(
        drawing, "text_strip", lambda parts, *rest: written.extend(parts) or strip(parts, *rest)
    )
    monkeypatch.setattr(
        drawing,
        "draw_tags",
        lambda picture, found, *rest: (
            written.extend((text, (x, y)) for x, y, text, _ in found) or tags(picture, found, *rest)
        ),
    )
    return written


def test_centers_are_those_of_mass():
    masks = torch.zeros(3, 6, 8)
    masks[0, 2, 3:6] = 0.9
    masks[1, 1:3, 0] = 0.6
    masks[1, 5, 7] = 0.5  # not above one half
    assert recurrent.mask_centers(masks) == [(4.0, 2.0), (0.0, 1.5), None]
    assert recurrent.mask_centers(masks[:0]) == []
    ring = torch.zeros(1, 21, 21)
    ring[0, 2:19, 2:19] = 1.0
    ring[0, 4:19, 4:17] = 0.0
    # The centre of mass lies in the hole; the pixel is one of the rim, in the same row or column.
    x, y = recurrent.mask_centers(ring)[0]
    assert ring[0, int(y), int(x)] == 1 and (x, y) == (10.0, 3.0)


def test_fitted_masks_are_smooth_and_keep_their_share():
    mask = torch.zeros(40, 40)
    mask[10:30, 20:40] = 1.0
    for size in ((160, 160), (10, 10)):
        fitted = recurrent.fitted_mask(mask, size)
        assert fitted.shape == size and fitted.dtype == np.float32
        assert fitted.min() >= 0 and fitted.max() <= 1
        assert fitted.mean() == pytest.approx(0.25, abs=0.01)
    one = torch.zeros(100, 100)
    one[50, 50] = 1.0
    assert recurrent.fitted_mask(one, (10, 10)).sum() == pytest.approx(0.01, rel=0.05)


def test_places_that_hide_each_other_are_moved_apart():
    places = {1: (10.0, 10.0), 2: (50.0, 10.0), 3: (12.0, 11.0), 4: (11.0, 10.0)}
    moved = pictures.apart(places, 20.0)
    assert moved[1] == places[1] and moved[2] == places[2]
    assert moved[3][1] == 11.0 and moved[3][0] > 12.0
    points = np.array(list(moved.values()))
    gaps = np.linalg.norm(points[:, None] - points, axis=2) + 100 * np.eye(4)
    assert gaps.min() >= 20


def test_overview_shows_every_object_in_its_color_and_links_them():
    canvas = np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 3), dtype=np.uint8)
    masks = sequence(2, stop=False)["masks"]
    picture = recurrent.overview(canvas, masks)
    assert (canvas == 0).all()
    for number, (top, left, bottom, right) in enumerate(BOXES[:2], start=1):
        color = np.array(instance_color(number))
        assert tuple(picture[SCALE * top, SCALE * (left + right) // 2]) == tuple(color)
        tint = picture[SCALE * (top + 1), SCALE * (left + 1)]
        np.testing.assert_allclose(tint, 0.35 * color, atol=1)
        outside = picture[SCALE * (bottom + 1), SCALE * left]
        assert (outside == 0).all()
    alone = recurrent.overview(canvas, masks[:1])
    assert (alone[SCALE * BOXES[1][0] :] == 0).all()


def test_the_line_goes_from_each_object_to_the_next():
    canvas = np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 3), dtype=np.uint8)
    picture = recurrent.overview(canvas, sequence(4, stop=False)["masks"])
    centers = np.array([[(t + b) / 2, (left + right) / 2] for t, left, b, right in BOXES])

    def lit(first, second):
        y, x = (SCALE * (0.55 * centers[first] + 0.45 * centers[second])).astype(int)
        return picture[y - 2 : y + 3, x - 2 : x + 3].min(axis=2).max() > 150

    linked = {(a, b) for a in range(4) for b in range(a + 1, 4) if lit(a, b)}
    assert linked == {(0, 1), (1, 2), (2, 3)}


def test_numbers_stand_at_the_centers(said):
    internals = sequence(4)
    internals["masks"][4, 20:24, 20:24] = 0.9  # at the stop: no object
    draw(internals)
    numbers = {text: place for text, place in said if text.isdigit()}
    assert list(numbers) == ["1", "2", "3", "4"]
    for number, (top, left, bottom, right) in zip(numbers, BOXES):
        x, y = numbers[number]
        assert x == pytest.approx(SCALE * (left + right) / 2, abs=10)
        assert y == pytest.approx(SCALE * (top + bottom) / 2, abs=10)


def test_heat_is_on_the_mask_and_the_image_elsewhere():
    grey = np.full((HEIGHT, WIDTH, 3), 60.0)
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[10:30, 20:50] = 1.0
    picture = recurrent.heat_tile(grey, mask, (1, 2, 3))
    assert (picture[:9] == 60).all() and (picture[:, :19] == 60).all()
    bright = 0.15 * 60 + 0.85 * np.array((255, 235, 130))
    np.testing.assert_allclose(picture[20, 35], bright, atol=1)
    outline = (picture == (1, 2, 3)).all(axis=2)
    assert outline.sum() == 2 * (20 + 30) - 4 and outline[10, 20:50].all()
    assert not (recurrent.heat_tile(grey, mask) == (1, 2, 3)).all(axis=2).any()


@pytest.mark.parametrize(("place", "side"), [((30, 40), 2), ((0, 0), 2), ((99, 99), 1)])
def test_tiny_masks_are_framed_even_if_they_vanish(place, side):
    mask = torch.zeros(100, 100)
    mask[place[0] : place[0] + side, place[1] : place[1] + side] = 1.0
    color = (0, 250, 0)
    small = recurrent.heat_tile(np.zeros((50, 50, 3)), mask, color)
    rows, columns = np.nonzero((small == color).all(axis=2))
    for found, center in ((rows, place[0] / 2), (columns, place[1] / 2)):
        assert found.min() <= center <= found.max() + 1 and 4 < np.ptp(found) < 14
    mask[20:60, 20:60] = 1.0
    large = recurrent.heat_tile(np.zeros((50, 50, 3)), mask, color)
    assert not (large[5:9] == color).all(axis=2).any()


@pytest.mark.parametrize("count", [1, 5, 6, 20, 21, 60, 300])
def test_rows_hold_all_tiles_in_order(count):
    tiles = [np.full((100, 90, 3), index % 251 + 1, dtype=np.uint8) for index in range(count)]
    picture = pictures.in_rows(tiles, 512)
    height, width = picture.shape[:2]
    seen = [
        int(picture[top + 50, left + 45, 0])
        for top in range(0, height, 100 + drawing.GAP)
        for left in range(0, width, 90 + drawing.GAP)
    ]
    background = drawing.BACKGROUND[0]
    assert seen[:count] == [index % 251 + 1 for index in range(count)]
    assert set(seen[count:]) <= {background}
    assert len(seen) - count < (width + drawing.GAP) // (90 + drawing.GAP)  # no row is empty
    assert height < 2.5 * width or count < 9
    assert width < 3 * max(height, 512)


def test_captions_name_classes_and_where_the_model_stops(said):
    draw(sequence(2), {"thing_classes": ["disc", "box"]})
    text = [part for part, _ in said]
    for words in ("1: disc 80%", "2: box 80%", "step 3: stop"):
        assert words in text
    assert text.count("objectness 90%") == 2 and text.count("objectness 10%") == 1
    assert ("step 3: stop", recurrent.STOP) in said
    assert ("1: disc 80%", instance_color(1)) in said
    assert "2 objects, numbered in order; stop at step 3" in text


@pytest.mark.parametrize(
    ("classes", "names", "caption"),
    [(3, None, "2: class 1 80%"), (3, ["disc"], "2: class 1 80%"), (1, ["cell"], "step 2")],
)
def test_classes_without_a_name_and_a_single_class(said, classes, names, caption):
    draw(sequence(2, classes=classes), names and {"thing_classes": names})
    assert caption in [text for text, _ in said]


def test_a_sequence_that_never_stops(said):
    picture = draw(sequence(3, stop=False))
    text = [part for part, _ in said]
    assert "3 objects, numbered in order; no stop in 3 steps" in text
    assert not any(part.endswith(": stop") for part in text)
    header_and_legend = picture[22:-66]
    assert not (header_and_legend == recurrent.STOP).all(axis=2).any()


def test_the_stop_is_framed_and_outlines_nothing():
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[10:30, 10:30] = 0.9
    picture = recurrent._framed(np.full((HEIGHT, WIDTH, 3), 60.0), mask)
    red = (picture == recurrent.STOP).all(axis=2)
    inside = red[3:-3, 3:-3]
    assert red.sum() == HEIGHT * WIDTH - inside.size and not inside.any()
    colors = np.unique(picture[3:-3, 3:-3].reshape(-1, 3), axis=0)
    assert len(colors) == 2  # the image and the heat, no outline
    internals = sequence(1)
    for count, framed in ((2, False), (1, True)):
        internals["count"] = torch.tensor(count)
        red = (draw(internals)[66:-70] == recurrent.STOP).all(axis=2)
        assert (red.sum() > 4 * 3 * 150) == framed


def test_a_cross_marks_where_a_step_looks():
    plain = sequence(2)
    size = plain["masks"].shape[1:]
    points = torch.tensor([[size[1] * 0.25, size[0] * 0.75]]).expand(len(plain["masks"]), 2)
    tiles = zip(*(recurrent._tiles(image(), x, ()) for x in (plain, {**plain, "points": points})))
    for step, (without, crossed) in enumerate(tiles):
        rows, columns = (without != crossed).any(axis=2).nonzero()
        if step == 2:  # the stop looks nowhere
            assert not len(rows)
            continue
        height = without.shape[0] - recurrent.LARGE_TILE * size[0] / (size[0] * size[1]) ** 0.5
        assert abs(rows.mean() - height - (without.shape[0] - height) * 0.75) < 3
        assert abs(columns.mean() - without.shape[1] * 0.25) < 3
        assert rows.max() - rows.min() < 4 * recurrent.CROSS


def test_an_empty_mask_is_named_and_not_numbered(said):
    internals = sequence(3)
    internals["masks"][1] = 0.4
    draw(internals)
    text = [part for part, _ in said]
    assert "step 2: empty mask" in text
    assert [t for t in text if t.isdigit()] == ["1", "3"]


def test_nothing_found(said):
    none = draw(sequence(0))
    text = [part for part, _ in said]
    assert "nothing found; stop at step 1" in text and "step 1: stop" in text
    empty = draw(sequence(0, stop=False))
    assert "nothing found; no stop in 0 steps" in [part for part, _ in said]
    assert none.shape[1] > empty.shape[1] == 512


@pytest.mark.parametrize("size", [(32, 256), (256, 32), (64, 64), (1200, 1600)])
@pytest.mark.parametrize("count", [1, 45])
def test_any_shape_of_input(size, count):
    masks = torch.zeros(count, *size)
    masks[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 0.9
    internals = {
        "masks": masks.requires_grad_(),
        "class_probabilities": torch.ones(count, 2) / 2,
        "objectness": torch.ones(count),
        "count": torch.tensor(count),
    }
    if size[0] == 1200 and count > 1:
        internals = {key: value[:2] if value.ndim else value for key, value in internals.items()}
        internals["count"] = torch.tensor(2)
    picture = draw(internals)
    assert picture.dtype == np.uint8 and max(picture.shape) < 4000


def test_many_numbers_get_a_larger_overview():
    few, many = (recurrent._overview_scale(torch.zeros(1, 256, 256), n) for n in (40, 41))
    assert (few, many) == (2, pytest.approx(1000 / 256))


def test_dark_images_are_shown_brighter(said):
    internals_panel("RecurrentInstanceSeg", image(12), sequence(1))
    assert any(text.endswith("(shown brighter than it is)") for text, _ in said)


def test_internals_of_a_model_are_drawn():
    class Model:
        def internals(self, batched_inputs):
            return [sequence(2) for _ in batched_inputs]

    found = compute_internals("RecurrentInstanceSeg", Model(), [{}])[0]
    assert internals_panel("RecurrentInstanceSeg", image(), found).ndim == 3
