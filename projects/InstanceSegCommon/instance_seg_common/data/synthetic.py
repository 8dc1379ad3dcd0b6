"""Synthetic images with exact instance masks: textured shapes that occlude, thin sticks that cross.

Arrays: S = image_size, K = objects of an image, h x w = a window of the image around one object.
Image (S, S, 3) uint8 RGB; label map (S, S) uint16, 0 = background, id i + 1 = object i.
Coordinates are x to the right and y down, in pixels, pixel centres at integers.
Objects are drawn one over the other in the order of their ids: a mask is what remains visible.
Only numpy is used to draw, so an image depends on (parameters, index) and on nothing else.

A set is rendered when it is first read, into a folder of the cache named after its parameters:
``images/00000.png`` (RGB) and ``annotations.json`` (RLE).
"""

import hashlib
import json
import logging
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Callable, NamedTuple

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

from ..errors import UserError
from .cache import cache_root
from .label_map import encode_label_map
from .registration import register_source

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 2  # part of the cache key: raise it whenever a pixel or the files change
STALE_SECONDS = 86_400  # an unfinished folder of this age belongs to a process that was killed
_ATTEMPTS_PER_OBJECT = 20
_RIM_PIXELS = 1.2
_PARTIAL = "-partial-"  # between the name of a set and a random one while it is rendered


@dataclass(frozen=True)
class CommonParameters:
    """What both kinds share. Pairs are (lowest, highest) of a uniform draw.

    Intensities are fractions of the full range (1.0 = 255 grey levels).
    """

    kind: str = ""
    num_images: int = 100
    image_size: int = 128  # pixels; images are square
    seed: int = 0
    objects: tuple = (4, 12)  # objects per image
    size: tuple = (0.1, 0.34)  # diameter or length, as a fraction of image_size
    min_visible: float = 0.4  # least fraction of an object that others may leave visible
    min_area: int = 40  # least visible pixels of an object
    contrast: tuple = (0.11, 0.32)  # brighter or darker than the background below, intensity
    tint: float = 0.1  # how far the colour channels of an object differ, intensity
    texture: float = 0.1  # amplitude of stripes, blotches and gradients on objects, intensity
    outline: float = 0.12  # how far the 1.2 pixel rim differs from its object, intensity
    background: float = 0.12  # amplitude of gradient and blotches of the background, intensity
    noise: float = 0.05  # standard deviation of the noise of each pixel and channel, intensity


@dataclass(frozen=True)
class ShapesParameters(CommonParameters):
    """Parameters of the kind ``shapes``."""

    kind: str = "shapes"
    aspect: tuple = (0.45, 1.0)  # short side over long side of a box


@dataclass(frozen=True)
class SticksParameters(CommonParameters):
    """Parameters of the kind ``sticks``."""

    kind: str = "sticks"
    size: tuple = (0.3, 0.6)
    min_visible: float = 0.6
    contrast: tuple = (0.16, 0.36)
    texture: float = 0.04
    outline: float = 0.15
    width: tuple = (0.032, 0.046)  # of a stick, as a fraction of image_size
    paired: float = 0.8  # chance that a stick comes with a partner crossing it in mirror image
    jitter: float = 0.02  # partner against exact mirror image, as a fraction of the length
    tilt: tuple = (25.0, 65.0)  # degrees from the horizontal of a pair; single sticks: any angle


KINDS = {
    "shapes": (ShapesParameters, ("disc", "box", "triangle", "star")),
    "sticks": (SticksParameters, ("stick",)),
}


@dataclass(frozen=True)
class SyntheticSource:
    """Name and parameters of one registered set."""

    name: str
    parameters: CommonParameters


class Outline(NamedTuple):
    """One object before it is drawn."""

    category: int  # 0-based class
    centre: tuple  # (x, y), pixels
    reach: float  # radius of a circle around the centre that contains the object, pixels
    distance: Callable  # (x, y) arrays relative to the centre -> signed distance, < 0 inside


_SHAPES_256 = {"kind": "shapes", "image_size": 256, "objects": (6, 20), "size": (0.06, 0.24)}
_STICKS_256 = {
    "kind": "sticks",
    "image_size": 256,
    "objects": (6, 14),
    "size": (0.2, 0.45),
    "width": (0.018, 0.028),
}

NAMED_SETS = {
    "synthetic_shapes_train": {"kind": "shapes", "num_images": 600, "seed": 1001},
    "synthetic_shapes_val": {"kind": "shapes", "num_images": 100, "seed": 1002},
    "synthetic_sticks_train": {"kind": "sticks", "num_images": 600, "seed": 2001},
    "synthetic_sticks_val": {"kind": "sticks", "num_images": 100, "seed": 2002},
    "synthetic_shapes_256_train": {**_SHAPES_256, "num_images": 300, "seed": 3001},
    "synthetic_shapes_256_val": {**_SHAPES_256, "num_images": 100, "seed": 3002},
    "synthetic_sticks_256_train": {**_STICKS_256, "num_images": 300, "seed": 4001},
    "synthetic_sticks_256_val": {**_STICKS_256, "num_images": 100, "seed": 4002},
}


def register_synthetic_dataset(
    name, kind="shapes", num_images=100, image_size=128, seed=0, **parameters
):
    """Register a set of synthetic images; nothing is drawn before the set is read.

    A second call with the same arguments changes nothing.

    Args:
        name (str): of the data set in Detectron2's catalogs.
        kind (str): "shapes" (discs, boxes, triangles, stars) or "sticks" (one class).
        num_images (int): images in the set.
        image_size (int): pixels; images are square.
        seed (int): 0 to 2**32 - 1. Sets with different seeds never share an image.
        **parameters: fields of `ShapesParameters` or `SticksParameters`, which state the units.

    Raises:
        UserError: a parameter is unknown or out of range, or ``name`` is taken by other data.
    """
    resolved = resolve_parameters(
        kind, num_images=num_images, image_size=image_size, seed=seed, **parameters
    )
    metadata = {"thing_classes": list(KINDS[kind][1]), "evaluator_type": "coco"}
    source = SyntheticSource(name, resolved)
    register_source(source, lambda found: load_synthetic(found.parameters), metadata)


def load_synthetic(parameters):
    """The data set dicts of a set, rendered first where the cache lacks it.

    Args:
        parameters (CommonParameters): from `resolve_parameters`.

    Returns:
        list[dict]: Detectron2's standard format; masks are RLE, boxes XYXY.
    """
    folder = _rendered_folder(parameters)
    records = json.loads((folder / "annotations.json").read_text())
    for record in records:
        record["file_name"] = str(folder / "images" / record["file_name"])
        for annotation in record["annotations"]:
            annotation["bbox_mode"] = BoxMode.XYXY_ABS
    return records


def resolve_parameters(kind="shapes", **parameters):
    """All parameters of a set, defaults filled in and checked.

    Args:
        kind (str): "shapes" or "sticks".
        **parameters: fields of `ShapesParameters` or `SticksParameters`.

    Returns:
        CommonParameters: of the class that belongs to ``kind``.

    Raises:
        UserError: unknown kind or parameter, or a value out of range.
    """
    if kind not in KINDS:
        raise UserError(f"Unknown kind of synthetic images: {kind!r}. Use one of {list(KINDS)}.")
    kind_class = KINDS[kind][0]
    known = [field.name for field in fields(kind_class)]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise UserError(f"Synthetic {kind} have no parameter {unknown}. They have: {known}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    resolved = kind_class(kind=kind, **values)
    _check(resolved)
    return resolved


def render(parameters, index):
    """Draw one image of a set.

    Args:
        parameters (CommonParameters): from `resolve_parameters`.
        index (int): of the image in its set, from 0.

    Returns:
        tuple: image (S, S, 3) uint8 RGB; label map (S, S) uint16; list of the K 0-based classes.
    """
    # Always two words of entropy: sets with different seeds can never share a stream.
    rng = np.random.default_rng([parameters.seed, index])
    canvas = _background(rng, parameters)
    labels = np.zeros(canvas.shape[:2], np.uint16)
    categories, areas = [], []
    wanted = int(rng.integers(parameters.objects[0], parameters.objects[1] + 1))
    sample = _sample_shape if parameters.kind == "shapes" else _sample_sticks
    for _ in range(_ATTEMPTS_PER_OBJECT * wanted):
        group = sample(rng, parameters)[: wanted - len(categories)]
        placed = _place(labels, areas, group, parameters) if group else None
        if placed is None:
            continue
        labels, areas = placed
        for outline in group:
            categories.append(outline.category)
            _paint(rng, canvas, outline, parameters)
    canvas += parameters.noise * rng.standard_normal(canvas.shape)
    return np.round(255 * np.clip(canvas, 0, 1)).astype(np.uint8), labels, categories


# ---------------------------------------------------------------------------------------- cache
def _rendered_folder(parameters):
    """Folder of a rendered set. Complete or absent: it takes its name when all files are there."""
    key = json.dumps(
        {"version": GENERATOR_VERSION, **asdict(parameters)}, sort_keys=True, default=int
    )
    folder = cache_root() / "synthetic" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Rendering %d synthetic images (%s).", parameters.num_images, parameters.kind)
    _remove_stale(folder)
    # Not tempfile: what it makes stays closed to other users.
    temporary = folder.with_name(f"{folder.name}{_PARTIAL}{uuid.uuid4().hex}")
    try:
        temporary.mkdir()
        _write_set(parameters, temporary)
        temporary.rename(folder)
    except OSError:
        # Another process that rendered the same set was first: its files are the same.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _remove_stale(folder):
    """Delete what killed renders of the same set have left."""
    for partial in folder.parent.glob(f"{folder.name}{_PARTIAL}*"):
        try:
            if time.time() - partial.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(partial)
        except OSError as error:  # of another user, or just being deleted by another process
            logger.info("The unfinished folder %s stays: %s", partial, error)


def _write_set(parameters, folder):
    (folder / "images").mkdir()
    records = []
    for index in range(parameters.num_images):
        image, labels, categories = render(parameters, index)
        record = _record(index, labels, categories)
        # Noise hardly compresses: the fastest level costs a few per cent of size.
        Image.fromarray(image).save(folder / "images" / record["file_name"], compress_level=1)
        records.append(record)
    (folder / "annotations.json").write_text(json.dumps(records))


def _record(index, labels, categories):
    height, width = labels.shape
    return {
        "file_name": f"{index:05d}.png",
        "image_id": index,
        "height": height,
        "width": width,
        "annotations": [
            _annotation(encoded, category, labels.shape)
            for encoded, category in zip(encode_label_map(labels), categories)
        ],
    }


def _annotation(encoded, category, size):
    x, y, width, height = encoded["bbox"]
    return {
        "bbox": [x, y, x + width, y + height],
        "category_id": category,
        "iscrowd": 0,
        "segmentation": {"size": list(size), "counts": encoded["counts"]},
    }


# Least and greatest value of what is not a fraction of something (those go from 0 to 1).
_LIMITS = {
    "num_images": (1, 99999),
    "image_size": (32, 4096),
    "seed": (0, 2**32 - 1),
    "objects": (1, 1000),
    "min_area": (1, np.inf),
    "tilt": (0, 90),
}


def _check(parameters):
    for field in fields(parameters):
        if field.name == "kind":
            continue
        value, low_high = getattr(parameters, field.name), _LIMITS.get(field.name, (0, 1))
        is_pair = isinstance(field.default, tuple)
        numbers = value if is_pair else (value,)
        kind = Integral if isinstance(np.ravel(field.default)[0], np.integer) else Real
        wanted = "whole number" if kind is Integral else "number"
        if is_pair:
            wanted = f"pair (lowest, highest) of {wanted}s"
        if not _is_valid(numbers, 2 if is_pair else 1, kind, low_high):
            raise UserError(
                f"Synthetic parameter {field.name!r} is {value!r}: give a {wanted} from "
                f"{low_high[0]} to {low_high[1]}."
            )


def _is_valid(numbers, length, kind, low_high):
    if not isinstance(numbers, tuple) or len(numbers) != length:
        return False
    if any(isinstance(number, bool) or not isinstance(number, kind) for number in numbers):
        return False
    return low_high[0] <= numbers[0] <= numbers[-1] <= low_high[1]


# ------------------------------------------------------------------------------------- geometry
def _sample_shape(rng, p):
    radius = 0.5 * rng.uniform(*p.size) * p.image_size
    centre = tuple(rng.uniform(0.03, 0.97, 2) * p.image_size)
    turn = rng.uniform(0, 2 * np.pi)
    category = int(rng.integers(len(KINDS["shapes"][1])))
    aspect = rng.uniform(*p.aspect)
    if category == 0:
        # A disc covers the most of its circle: smaller, so that sizes do not give classes away.
        return [Outline(0, centre, radius, lambda x, y: np.hypot(x, y) - 0.85 * radius)]
    if category == 1:
        half = radius * np.array([1, aspect]) / np.hypot(1, aspect)
        return [Outline(1, centre, radius, _box_distance(half, turn))]
    tips, inner = (3, 0.5) if category == 2 else (5, 0.45)
    return [Outline(category, centre, radius, _star_distance(radius, tips, inner, turn))]


def _sample_sticks(rng, p):
    """One stick, or two that cross as mirror images, whose boxes are therefore almost the same."""
    half = 0.5 * p.image_size * np.array([rng.uniform(*p.size), rng.uniform(*p.width)])
    centre = rng.uniform(0.12, 0.88, 2) * p.image_size
    if rng.uniform() >= p.paired:
        return [_stick(centre, half, rng.uniform(0, np.pi))]
    tilt = np.deg2rad(rng.uniform(*p.tilt)) * rng.choice([-1, 1])
    shift, turn, stretch = p.jitter * rng.standard_normal((3, 2))
    partner_half = half * [1 + stretch[0], rng.uniform(0.85, 1.15)]
    partner = _stick(centre + shift * 2 * half[0], partner_half, turn[0] - tilt)
    return [_stick(centre, half, tilt), partner]


def _stick(centre, half, angle):
    return Outline(0, tuple(centre), float(np.hypot(*half)), _box_distance(half, angle))


def _box_distance(half, turn):
    """Signed distance to a rotated rectangle with half sides ``half`` (2,); exact at its sides."""
    cos, sin = np.cos(turn), np.sin(turn)

    def distance(x, y):
        along, across = cos * x + sin * y, cos * y - sin * x
        return np.maximum(np.abs(along) - half[0], np.abs(across) - half[1])

    return distance


def _star_distance(radius, tips, inner, turn):
    """Signed distance to a star; with three tips and ``inner`` 0.5 it is a triangle.

    By symmetry one half of one tip is enough: the edge from the tip (radius at angle 0) to the
    notch (inner * radius at angle pi / tips).
    """
    notch = inner * radius * np.array([np.cos(np.pi / tips), np.sin(np.pi / tips)])
    normal = np.array([notch[1], radius - notch[0]]) / np.hypot(notch[1], radius - notch[0])

    def distance(x, y):
        sector = 2 * np.pi / tips
        folded = np.abs((np.arctan2(y, x) - turn) % sector - sector / 2)
        angle, length = sector / 2 - folded, np.hypot(x, y)
        return (length * np.cos(angle) - radius) * normal[0] + length * np.sin(angle) * normal[1]

    return distance


def _window(outline, image_size):
    """Slices around an object, its signed distances there (h, w), its own x (1, w) and y (h, 1)."""
    low = np.floor(np.array(outline.centre) - outline.reach - 1).astype(int)
    high = np.ceil(np.array(outline.centre) + outline.reach + 2).astype(int)
    (x0, y0), (x1, y1) = np.clip(low, 0, image_size), np.clip(high, 0, image_size)
    x = np.arange(x0, x1)[None, :] - outline.centre[0]
    y = np.arange(y0, y1)[:, None] - outline.centre[1]
    return (slice(y0, y1), slice(x0, x1)), outline.distance(x, y), x, y


def _place(labels, areas, group, p):
    """Labels and unoccluded areas with ``group`` drawn on top, or None if too much gets hidden."""
    labels, areas = labels.copy(), list(areas)
    for outline in group:
        window, distance, _, _ = _window(outline, p.image_size)
        inside = distance <= 0
        areas.append(int(inside.sum()))
        labels[window][inside] = len(areas)
    visible = np.bincount(labels.ravel(), minlength=len(areas) + 1)[1:]
    enough = visible >= np.maximum(p.min_visible * np.array(areas), p.min_area)
    return (labels, areas) if enough.all() else None


# ----------------------------------------------------------------------------------- appearance
def _background(rng, p):
    """(S, S, 3) float canvas: a gradient, blotches of three sizes, a tint."""
    ramp = np.linspace(-1, 1, p.image_size)
    towards = rng.uniform(0, 2 * np.pi)
    gradient = np.cos(towards) * ramp[None, :] + np.sin(towards) * ramp[:, None]
    blotches = sum(_blotches(rng, p.image_size, p.image_size // cell) for cell in (32, 12, 5))
    grey = rng.uniform(0.38, 0.62) + p.background * (gradient + 0.4 * blotches)
    return grey[..., None] + p.tint * rng.uniform(-0.5, 0.5, 3)


def _blotches(rng, pixels, cells):
    """(pixels, pixels) smooth noise: a random grid, interpolated linearly."""
    grid = rng.standard_normal((cells + 1, cells + 1))
    position = np.linspace(0, cells, pixels)
    low = np.minimum(position.astype(int), cells - 1)
    high_share = (position - low)[:, None]
    rows = grid[low] * (1 - high_share) + grid[low + 1] * high_share
    return rows[:, low] * (1 - high_share.T) + rows[:, low + 1] * high_share.T


def _paint(rng, canvas, outline, p):
    """Blend one object into ``canvas`` (S, S, 3), in place, with soft edges."""
    window, distance, x, y = _window(outline, p.image_size)
    below = canvas[window]
    covered = np.clip(0.5 - distance, 0, 1)
    base, offset = np.average(below.mean(-1), weights=covered), rng.uniform(*p.contrast)
    sign = rng.choice([-1, 1])
    if not 0.1 <= base + sign * offset <= 0.9:
        sign = -sign  # what would leave the range goes the other way: no object is cut off flat
    level = base + sign * offset
    surface = level + p.texture * _pattern(rng, x, y, outline.reach)
    surface = surface - sign * p.outline * (distance > -_RIM_PIXELS)
    colour = surface[..., None] + p.tint * rng.uniform(-1, 1, 3)
    canvas[window] = below + covered[..., None] * (colour - below)


def _pattern(rng, x, y, reach):
    """(h, w) in about -1..1: a gradient, plus stripes or checks of random direction and period."""
    towards, period = rng.uniform(0, 2 * np.pi), rng.uniform(4, 12)
    along = np.cos(towards) * x + np.sin(towards) * y
    across = np.cos(towards) * y - np.sin(towards) * x
    wave = np.sin(2 * np.pi * along / period)
    if rng.uniform() < 0.5:
        wave = wave * np.sin(2 * np.pi * across / period)
    return 0.6 * rng.uniform(-1, 1) * along / reach + 0.6 * rng.uniform(0, 1) * wave
