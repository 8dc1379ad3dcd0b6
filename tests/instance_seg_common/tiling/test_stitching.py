"""Stitching against the truth: an oracle in place of a model makes the result exact."""

import numpy as np
import pytest

from instance_seg_common.errors import UserError
from instance_seg_common.tiling.stitching import Part, Piece, Stitcher
from instance_seg_common.tiling.tiles import Box, tile_grid


def parts_of(labels, tile, *, change=lambda mask, rng: mask, rng=None):
    """The true objects cut to a tile, as a perfect model would see them."""
    window = labels[tile.window.slices]
    found = []
    for value in np.unique(window[window > 0]):
        mask = change(window == value, rng)
        if mask is not None and mask.any():
            piece = Piece(tile.window, mask).tightened()
            found.append(Part(piece, score=0.5, label=int(value) % 3))
    return found


def stitched(labels, tile_size, overlap, **options):
    tiles = tile_grid(labels.shape, tile_size, overlap)
    stitcher = Stitcher(tiles)
    for tile in tiles:
        stitcher.add(parts_of(labels, tile, **options))
    return list(stitcher.objects())


def painted(objects, shape):
    """A label map of stitched objects; a pixel in two of them is an error."""
    labels = np.zeros(shape, int)
    for number, one in enumerate(objects, start=1):
        for piece in one.pieces:
            assert not labels[piece.box.slices][piece.mask].any()
            labels[piece.box.slices][piece.mask] = number
    return labels


def same_up_to_numbers(one, other):
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist()))
    background = {pair for pair in pairs if 0 in pair}
    return background <= {(0, 0)} and len({a for a, _ in pairs}) == len(pairs) == len(
        {b for _, b in pairs}
    )


def discs(rng, size):
    """Discs of any radius, later ones in front, so that they touch and cut each other."""
    labels = np.zeros(size, int)
    yy, xx = np.indices(size)
    for value in range(1, 1 + rng.integers(1, 25)):
        y, x, r = rng.integers(size[0]), rng.integers(size[1]), rng.integers(1, 14)
        labels[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = value
    return labels


def worms(rng, size):
    """Random walks, longer than a tile."""
    labels = np.zeros(size, int)
    for value in range(1, 1 + rng.integers(1, 6)):
        y, x = rng.integers(size[0]), rng.integers(size[1])
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(20, 200)):
            top, left = max(int(y), 0), max(int(x), 0)
            free = labels[top : top + 3, left : left + 3]
            free[free == 0] = value
            heading += rng.normal(0, 0.3)
            y, x = y + np.sin(heading), x + np.cos(heading)
    return labels


def rings(rng, size):
    """Rings with something inside, and rings in rings."""
    labels = np.zeros(size, int)
    yy, xx = np.indices(size)
    for value in range(1, 1 + rng.integers(1, 6)):
        y, x, r = rng.integers(size[0]), rng.integers(size[1]), rng.integers(6, 30)
        distance = np.hypot(yy - y, xx - x)
        labels[(distance <= r) & (distance > r - 3)] = 2 * value
        labels[distance <= r / 3] = 2 * value + 1
    return labels


def whole(rng, size):
    """One object over everything, with others in it."""
    return np.where(discs(rng, size) > 0, discs(rng, size) + 1, 1)


def nothing(rng, size):
    return np.zeros(size, int)


def connected(labels):
    """Every connected part of every object as an object of its own: 8 neighbours."""
    from skimage.measure import label

    return label(labels, connectivity=2)


@pytest.mark.parametrize("kind", [discs, worms, rings, whole, nothing])
@pytest.mark.parametrize("seed", range(12))
def test_what_an_oracle_sees_in_tiles_is_the_truth(kind, seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 130, 2))
    labels = connected(kind(rng, size))
    overlap = int(rng.integers(2, 20))
    tile_size = int(rng.integers(2 * overlap, 2 * overlap + 40))
    objects = stitched(labels, tile_size, overlap)
    assert same_up_to_numbers(painted(objects, size), labels)
    values = [labels[one.pieces[0].box.slices][one.pieces[0].mask][0] for one in objects]
    assert [one.label for one in objects] == [value % 3 for value in values]
    assert [one.score for one in objects] == pytest.approx([0.5] * len(objects))


def grown_or_shrunk(mask, rng):
    """The border off by one pixel, outwards or inwards."""
    from scipy.ndimage import binary_dilation, binary_erosion

    return binary_dilation(mask) if rng.random() < 0.5 else binary_erosion(mask, border_value=1)


def apart(rng, size):
    """Discs that do not touch, large enough to be there after an erosion."""
    labels = np.zeros(size, int)
    yy, xx = np.indices(size)
    for value in range(1, 40):
        y, x, r = rng.integers(size[0]), rng.integers(size[1]), rng.integers(6, 12)
        near = (yy - y) ** 2 + (xx - x) ** 2 <= (r + 4) ** 2
        if not labels[near].any() and r <= y < size[0] - r and r <= x < size[1] - r:
            labels[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = value
    return labels


@pytest.mark.parametrize("seed", range(8))
def test_borders_off_by_one_give_no_duplicate_and_no_cut(seed):
    rng = np.random.default_rng(seed)
    labels = apart(rng, (150, 130))
    objects = stitched(labels, 64, 24, change=grown_or_shrunk, rng=rng)
    assert len(objects) == len(np.unique(labels)) - 1
    result = painted(objects, labels.shape)
    for value in np.unique(labels)[1:]:
        inside, sizes = np.unique(result[labels == value], return_counts=True)
        assert (inside > 0).sum() == 1  # one object, whole
        assert sizes[inside > 0].sum() >= 0.55 * (labels == value).sum()


@pytest.mark.parametrize("seed", range(8))
def test_an_object_that_one_of_two_tiles_misses_is_there_once_and_whole(seed):
    rng = np.random.default_rng(seed)
    labels = apart(rng, (150, 130))
    tiles = tile_grid(labels.shape, 64, 32)
    stitcher = Stitcher(tiles)
    seen = dict.fromkeys(np.unique(labels)[1:], 0)
    for tile in tiles:
        parts = parts_of(labels, tile)
        kept = []
        for part in parts:
            value = labels[part.piece.box.slices][part.piece.mask][0]
            # One that ends where its window ends cannot be known to be whole.
            rows, columns = part.piece.box[::2], part.piece.box[1::2]
            ends = {*rows} & {tile.window.top, tile.window.bottom} - {0, labels.shape[0]}
            ends |= {*columns} & {tile.window.left, tile.window.right} - {0, labels.shape[1]}
            complete = part.piece.area == (labels == value).sum() and not ends
            # Every object is seen whole by one tile at least; of the others some miss it.
            if (complete and not seen[value]) or rng.random() < 0.5:
                seen[value] += complete
                kept.append(part)
        stitcher.add(kept)
    complete = {value for value, times in seen.items() if times}
    result = painted(stitcher.objects(), labels.shape)
    for value in complete:
        numbers = np.unique(result[labels == value])
        assert len(numbers) == 1 and numbers[0] > 0
        assert (result == numbers[0]).sum() == (labels == value).sum()


def test_what_one_tile_tells_apart_is_not_joined():
    tiles = tile_grid((10, 30), 20, 10)
    stitcher = Stitcher(tiles)
    upper, lower = np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    upper[:5, 10:], lower[5:, 10:] = True, True
    both = np.zeros((10, 20), bool)
    both[:, :10] = True
    stitcher.add([Part(Piece(tiles[0].window, mask), 0.9, 0) for mask in (upper, lower)])
    stitcher.add([Part(Piece(tiles[1].window, both), 0.9, 0)])
    assert len(list(stitcher.objects())) == 2


def at(tile, box, score=0.9):
    """A rectangle as a part of a tile."""
    return Part(Piece(Box(*box), np.ones(Box(*box).shape, bool)), score, 0)


def test_two_objects_of_a_tile_are_not_joined_through_the_others():
    tiles = tile_grid((30, 30), 20, 10)  # two by two
    stitcher = Stitcher(tiles)
    # One object leaves the first tile to the right, one downwards; the others see them as one.
    stitcher.add([at(tiles[0], (0, 12, 8, 20)), at(tiles[0], (12, 0, 20, 8))])
    stitcher.add([at(tiles[1], (0, 12, 20, 30))])
    stitcher.add([at(tiles[2], (12, 0, 30, 20))])
    stitcher.add([at(tiles[3], (10, 10, 30, 30))])
    assert len(list(stitcher.objects())) == 2


def test_a_cut_view_gives_way_to_the_tile_that_sees_the_whole():
    tiles = tile_grid((20, 60), 40, 20)  # the line between the cores is at 30
    stitcher = Stitcher(tiles)
    # The first tile predicts a nucleus twice, as it does at the end of what it sees.
    stitcher.add([at(tiles[0], (0, 26, 20, 40)), at(tiles[0], (0, 28, 20, 40), score=0.4)])
    stitcher.add([at(tiles[1], (0, 26, 20, 50))])
    (only,) = stitcher.objects()
    assert only.area == 20 * 24


def test_what_is_seen_only_at_the_end_of_a_window_outside_its_core_is_passed_over():
    tiles = tile_grid((20, 60), 40, 20)
    stitcher = Stitcher(tiles)
    stitcher.add([at(tiles[0], (0, 35, 20, 40))])
    stitcher.add([])
    assert not list(stitcher.objects())


def test_scores_and_classes_are_those_of_most_pixels():
    tiles = tile_grid((10, 30), 20, 10)
    stitcher = Stitcher(tiles)
    mask = np.ones((10, 20), bool)
    narrow = mask.copy()
    narrow[:, 10:] = False
    stitcher.add([Part(Piece(tiles[0].window, mask), 0.9, 1)])
    stitcher.add([Part(Piece(tiles[1].window, narrow), 0.3, 2)])
    (only,) = stitcher.objects()
    assert only.label == 1
    assert only.score == pytest.approx((0.9 * 200 + 0.3 * 100) / 300)
    assert only.area == 15 * 10 + 5 * 10


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (129, 130), (64, 64), (65, 64)])
def test_cores_cover_the_image_once_and_windows_see_beyond_them(size):
    tiles = tile_grid(size, 64, 10)
    covered = np.zeros(size, int)
    for number, tile in enumerate(tiles):
        assert tile.index == number
        assert max(tile.window.shape) <= 64
        covered[tile.core.slices] += 1
        core, window = tile.core, tile.window
        assert core.top == window.top == 0 or core.top - window.top >= 5
        assert core.right == window.right == size[1] or window.right - core.right >= 5
    assert (covered == 1).all()


@pytest.mark.parametrize(("tile_size", "overlap"), [(64, 1), (64, 0), (10, 6), (64, -3)])
def test_tiles_that_cannot_overlap_so_are_refused(tile_size, overlap):
    with pytest.raises(UserError, match=f"{tile_size} pixels cannot overlap by {overlap}"):
        tile_grid((100, 100), tile_size, overlap)


def test_pieces_are_cut_and_tightened():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    piece = Piece(Box(10, 20, 14, 25), mask).tightened()
    assert piece.box == Box(11, 22, 13, 24) and piece.mask.all() and piece.area == 4
    assert piece.cut(Box(0, 0, 12, 23)).box == Box(11, 22, 12, 23)
    assert piece.cut(Box(0, 0, 5, 5)).area == 0
