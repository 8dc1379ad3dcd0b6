"""Objects of overlapping tiles put together: each once, those on seams from their parts.

Two parts that two tiles see are one object if they agree where both tiles look: each is the other's
best partner by IoU there, and they share half or more of the smaller one. What one tile tells
apart is never joined. A pixel is decided by the tile in whose core it lies, where that tile sees
the object at all, else by the tiles that do.

If every tile returns the true objects cut to its window, the result is the truth, for connected
objects (of 4 or 8 neighbours) and overlaps of two pixels or more: a pixel and its neighbour, which
may lie in another core, are both seen by the tiles of both cores, so that their parts share them.

An object is a list of pieces, never a mask of the whole image.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .tiles import Box, Tile

AGREEMENT = 0.5  # shared pixels of two parts, as a share of the smaller, where both tiles look
COVERED = 0.5  # share of a cut part that others must explain for it to be passed over


class Piece(NamedTuple):
    """Some pixels: a box of the image, and which of its pixels, (height, width) bool."""

    box: Box
    mask: np.ndarray

    def cut(self, box: Box) -> "Piece":
        """The pixels inside a box; of an empty box if there are none."""
        common = self.box.common(box)
        if common.is_empty():
            return Piece(Box(0, 0, 0, 0), np.zeros((0, 0), bool))
        return Piece(common, self.mask[common.moved(-self.box.top, -self.box.left).slices])

    def tightened(self) -> "Piece":
        """The same pixels in the smallest box, a copy."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        if not rows.size:
            return Piece(Box(0, 0, 0, 0), np.zeros((0, 0), bool))
        inner = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        return Piece(inner.moved(self.box.top, self.box.left), self.mask[inner.slices].copy())

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


class Part(NamedTuple):
    """What one tile sees of an object.

    Args:
        piece: its pixels, in coordinates of the image.
        score: of the prediction.
        label: class, 0-based.
    """

    piece: Piece
    score: float
    label: int


class StitchedObject(NamedTuple):
    """pieces: no pixel is in two of them; score: mean of the parts, weighted by their pixels;
    label: the class of most of these pixels."""

    pieces: tuple[Piece, ...]
    score: float
    label: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return sum(piece.area for piece in self.pieces)

    @property
    def box(self) -> Box:
        """The smallest that holds all its pixels."""
        boxes = np.array([piece.box for piece in self.pieces])
        return Box(*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())

    def cropped(self) -> Piece:
        """All its pixels in one box, the smallest."""
        return _union(self.pieces, self.box)


class Stitcher:
    """Takes the parts that each tile sees, in the order of the tiles, and gives whole objects.

    Args:
        tiles: the grid.
    """

    def __init__(self, tiles: "Sequence[Tile]") -> None:
        self._tiles = tiles
        self._near = _neighbours(tiles)
        self._parts: list[list[Part]] = []
        self._groups = _Groups()
        self._matched: set[tuple[int, int]] = set()  # (tile, part) that another tile confirms

    def add(self, parts: "Iterable[Part]") -> None:
        """Take the parts that the next tile sees.

        Args:
            parts: inside the tile's window; those without a pixel are passed over.
        """
        tile = self._tiles[len(self._parts)]
        kept = [part for part in parts if part.piece.area]
        self._parts.append(kept)
        for number in range(len(kept)):
            self._groups.add((tile.index, number))
        for index in self._near[tile.index]:
            if index < tile.index:
                self._join(self._tiles[index], tile)

    def _join(self, earlier: Tile, tile: Tile) -> None:
        common = earlier.window.common(tile.window)
        pairs = _agreeing(self._parts[earlier.index], self._parts[tile.index], common)
        for first, second in pairs:
            one, other = (earlier.index, first), (tile.index, second)
            if self._groups.join(one, other):
                self._matched |= {one, other}

    def objects(self) -> "Iterator[StitchedObject]":
        """The objects, once all tiles have been added; in the order of their first parts."""
        for members in self._groups.members():
            if len(members) > 1 or not self._is_cut_view(*members[0]):
                stitched = self._whole(members)
                if stitched.pieces:
                    yield stitched

    def _whole(self, members: "list[tuple[int, int]]") -> StitchedObject:
        parts = {tile: self._parts[tile][number] for tile, number in members}
        areas = {tile: part.piece.area for tile, part in parts.items()}
        votes: dict[int, int] = {}
        for tile, part in parts.items():
            votes[part.label] = votes.get(part.label, 0) + areas[tile]
        score = sum(part.score * areas[tile] for tile, part in parts.items()) / sum(areas.values())
        label = max(votes, key=lambda key: (votes[key], -key))
        return StitchedObject(tuple(self._pieces(parts)), score, label)

    def _pieces(self, parts: "dict[int, Part]") -> "Iterator[Piece]":
        """Of each core that the parts reach, the pixels of the object in it."""
        for tile in self._reached(parts):
            if tile.index in parts:
                piece = parts[tile.index].piece.cut(tile.core).tightened()
            else:
                piece = _union([part.piece.cut(tile.core) for part in parts.values()], tile.core)
            if piece.mask.size:
                yield piece

    def _reached(self, parts: "dict[int, Part]") -> "list[Tile]":
        boxes = [part.piece.box for part in parts.values()]
        near = set(parts).union(*(self._near[tile] for tile in parts))
        return [
            self._tiles[index]
            for index in sorted(near)
            if any(not self._tiles[index].core.common(box).is_empty() for box in boxes)
        ]

    def _is_cut_view(self, index: int, number: int) -> bool:
        """Whether a part that no other tile confirms is a cut view of what others see better.

        It ends at its window's border, so that the model did not see all of it; and it lies outside
        its tile's core, or other tiles that see all of it have something else in its place.
        """
        tile, piece = self._tiles[index], self._parts[index][number].piece
        if not _ends_at_border(piece.box, tile.window, self._tiles):
            return False
        if not piece.cut(tile.core).mask.any():
            return True
        return any(
            self._explains(self._tiles[other], piece)
            for other in self._near[index]
            if self._tiles[other].window.common(piece.box) == piece.box
        )

    def _explains(self, other: Tile, piece: Piece) -> bool:
        cuts = [part.piece.cut(piece.box) for part in self._parts[other.index]]
        return _shared(_union(cuts, piece.box), piece) >= COVERED * piece.area


def _ends_at_border(box: Box, window: Box, tiles: "Sequence[Tile]") -> bool:
    """Whether a part ends where its window ends and the image goes on."""
    height, width = tiles[-1].window.bottom, tiles[-1].window.right
    return (
        (box.top == window.top > 0)
        or (box.left == window.left > 0)
        or (box.bottom == window.bottom < height)
        or (box.right == window.right < width)
    )


def _agreeing(
    first: "Sequence[Part]", second: "Sequence[Part]", common: Box
) -> "list[tuple[int, int]]":
    """Pairs of parts of two tiles that are the same object, by what both see; the best first."""
    ones, others = _within(first, common), _within(second, common)
    iou = np.zeros((len(ones), len(others)))
    agreement = np.zeros_like(iou)
    for row, column in _boxes_that_meet(ones, others):
        one, other = ones[row][1], others[column][1]
        shared = _shared(one, other)
        if shared:
            iou[row, column] = shared / (one.area + other.area - shared)
            agreement[row, column] = shared / min(one.area, other.area)
    pairs = []
    for row in range(len(ones)):
        column = int(iou[row].argmax()) if len(others) else -1
        mutual = column >= 0 and iou[row, column] > 0 and iou[:, column].argmax() == row
        if mutual and agreement[row, column] >= AGREEMENT:
            pairs.append((iou[row, column], ones[row][0], others[column][0]))
    return [(one, other) for _, one, other in sorted(pairs, key=lambda pair: -pair[0])]


def _within(parts: "Sequence[Part]", box: Box) -> "list[tuple[int, Piece]]":
    """The numbers of the parts that have pixels in a box, and these pixels."""
    cuts = [(number, part.piece.cut(box)) for number, part in enumerate(parts)]
    return [(number, piece) for number, piece in cuts if piece.mask.any()]


def _boxes_that_meet(
    ones: "Sequence[tuple[int, Piece]]", others: "Sequence[tuple[int, Piece]]"
) -> "Iterator[tuple[int, int]]":
    """Rows and columns of pairs whose boxes have a pixel in common."""
    first = np.array([piece.box for _, piece in ones]).reshape(-1, 1, 4)
    second = np.array([piece.box for _, piece in others]).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    rows, columns = np.nonzero((low < high).all(-1))
    return zip(rows.tolist(), columns.tolist())


def _neighbours(tiles: "Sequence[Tile]") -> "list[list[int]]":
    """Of each tile the indices of those whose windows overlap its own."""
    windows = np.array([tile.window for tile in tiles])
    near = []
    for index, window in enumerate(windows):
        low = np.maximum(windows[:, :2], window[:2])
        meets = (low < np.minimum(windows[:, 2:], window[2:])).all(1)
        near.append([other for other in np.flatnonzero(meets).tolist() if other != index])
    return near


def _shared(one: Piece, other: Piece) -> int:
    """Pixels in both."""
    common = one.box.common(other.box)
    if common.is_empty():
        return 0
    return int(np.count_nonzero(one.cut(common).mask & other.cut(common).mask))


def _union(pieces: "Sequence[Piece]", frame: Box) -> Piece:
    """Pixels in any of some pieces, which lie in a frame, in the smallest box."""
    mask = np.zeros(frame.shape, bool)
    for piece in pieces:
        if piece.mask.size:
            mask[piece.box.moved(-frame.top, -frame.left).slices] |= piece.mask
    return Piece(frame, mask).tightened()


class _Groups:
    """Union-find over (tile, part); a group has at most one part of each tile."""

    def __init__(self) -> None:
        self._members: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(self, key: "tuple[int, int]") -> None:
        self._members[key] = [key]

    def join(self, one: "tuple[int, int]", other: "tuple[int, int]") -> bool:
        """Join two groups unless one tile sees both; whether they are one group now."""
        first, second = self._members[one], self._members[other]
        if first is second:
            return True
        if {tile for tile, _ in first} & {tile for tile, _ in second}:
            return False
        first.extend(second)
        for key in second:
            self._members[key] = first
        return True

    def members(self) -> "Iterator[list[tuple[int, int]]]":
        """Each group once, sorted."""
        seen = set()
        for group in self._members.values():
            if id(group) not in seen:
                seen.add(id(group))
                yield sorted(group)
