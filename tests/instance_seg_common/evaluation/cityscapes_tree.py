"""A small Cityscapes in the official format, predictions for it, and the official score of them.

Shapes: H, W an image; a label is (H, W) uint16, as in ``*_gtFine_instanceIds.png``.
"""

import contextlib
import copy
import io
import json
from unittest import mock

import numpy as np
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
from cityscapesscripts.evaluation.instances2dict import instances2dict
from PIL import Image
from square_sets import make_instances

from instance_seg_common.data.cityscapes import CLASS_IDS

SIZE = (128, 256)
# Focal length (pixels) and baseline (metres) of the cars that recorded Cityscapes.
FX, BASELINE = 2262.52, 0.209313
# Rectangles of a scene: id, top, left, height, width, metres, share of pixels that are measured.
SCENE = [
    (26001, 70, 10, 36, 48, 12.0, 1.0),
    (26002, 66, 70, 34, 40, 45.0, 0.9),
    (26003, 62, 120, 33, 36, 80.0, 0.8),
    (26004, 60, 166, 33, 36, 130.0, 1.0),
    (26005, 60, 205, 33, 36, 30.0, 0.3),
    (26006, 50, 130, 9, 15, 95.0, 1.0),
    (24001, 20, 10, 40, 30, 25.0, 1.0),
    (24002, 20, 44, 40, 26, 60.0, 1.0),
    (25000, 22, 74, 34, 30, 26.0, 1.0),
    (33012, 22, 104, 34, 30, 26.0, 1.0),
    (29001, 20, 138, 28, 30, 20.0, 1.0),  # a caravan, which is not scored
    (26, 20, 172, 28, 40, 70.0, 1.0),  # cars in one piece
    (24, 20, 214, 28, 20, 90.0, 1.0),  # persons in one piece
    (4, 50, 172, 8, 40, 70.0, 1.0),  # static, which is not evaluated
]
SEVERAL = [("val", "frankfurt", 0), ("val", "frankfurt", 1), ("val", "lindau", 2)]


def disparity_value(metres):
    """The value in the PNG of a distance."""
    return round(256 * FX * BASELINE / metres + 1)


def draw(rectangles, size=SIZE, seed=0):
    """The label of a scene and its disparities, (H, W) uint16 each."""
    label = np.full(size, 7, np.uint16)
    label[: size[0] // 8] = 23
    label[-size[0] // 10 :] = 1
    disparity = np.full(size, disparity_value(40), np.uint16)
    random = np.random.default_rng(seed)
    for number, top, left, height, width, metres, share in rectangles:
        box = np.s_[top : top + height, left : left + width]
        measured = np.arange(height * width).reshape(height, width) < share * height * width
        noise = random.integers(-2, 3, measured.shape)
        label[box] = number
        disparity[box] = np.where(measured, disparity_value(metres) + noise, 0)
    return label, disparity


def variant(number):
    """The scene of image ``number``: another part of SCENE, moved."""
    return [
        (i, top + number, left + 2 * number, *rest)
        for index, (i, top, left, *rest) in enumerate(SCENE)
        if index % 5 != number % 5 or number == 0
    ]


def write_image(root, split, city, number, scene=None, stereo=True):
    """All files of one image below root (``.../cityscapes``); returns its stem."""
    label, disparity = draw(variant(number) if scene is None else scene, seed=number)
    stem = f"{city}_{number:06}_000019"
    label_ids = np.where(label < 1000, label, label // 1000).astype(np.uint8)
    image = np.random.default_rng(number).integers(0, 255, (*label.shape, 3), np.uint8)
    image[..., 0] = label_ids * 7  # something to learn from
    pictures = {"leftImg8bit/leftImg8bit": image}
    pictures["gtFine/gtFine_instanceIds"] = label
    pictures["gtFine/gtFine_labelIds"] = label_ids
    if stereo:
        pictures["disparity/disparity"] = disparity
        path = file_of(root, "camera", split, city, f"{stem}_camera.json")
        path.write_text(json.dumps(camera()))
    for name, content in pictures.items():
        kind, ending = name.split("/")
        path = file_of(root, kind, split, city, f"{stem}_{ending}.png")
        Image.fromarray(content).save(path)
    return stem


def file_of(root, kind, split, city, name):
    """A path of the tree, its folder made."""
    folder = root / kind / split / city
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def camera():
    """A calibration as it is published."""
    return {
        "extrinsic": {
            "baseline": BASELINE, "pitch": 0.038, "roll": 0.0,
            "x": 1.7, "y": 0.1, "yaw": -0.0195, "z": 1.22,
        },
        "intrinsic": {"fx": FX, "fy": 2265.3, "u0": 1096.98, "v0": 513.137},
    }  # fmt: skip


def write_tree(root, images=SEVERAL, stereo=True):
    """A tree below root (``.../cityscapes``); returns the stems."""
    return [write_image(root, split, city, n, stereo=stereo) for split, city, n in images]


def label_files(root, split="val"):
    """{stem: path} of the instance ids."""
    suffix = "_gtFine_instanceIds.png"
    found = sorted((root / "gtFine" / split).glob(f"*/*{suffix}"))
    return {path.name.removesuffix(suffix): path for path in found}


def read_label(path):
    """A label as a numpy array."""
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def objects_of(label):
    """Masks (N, H, W) bool and 0-based classes of the scored objects of a label."""
    table = list(CLASS_IDS.values())
    ids = [i for i in np.unique(label).tolist() if i >= 1000 and i // 1000 in table]
    masks = np.array([label == i for i in ids]).reshape(-1, *label.shape)
    return masks, [table.index(i // 1000) for i in ids]


def perfect(label):
    """The objects themselves as Instances."""
    masks, classes = objects_of(label)
    return make_instances(masks, classes=classes)


def shifted(label, pixels=4):
    """The objects moved right, scores falling."""
    masks, classes = objects_of(label)
    scores = np.linspace(0.9, 0.3, len(masks))
    return make_instances(np.roll(masks, pixels, axis=2), scores, classes)


def empty(label):
    """No prediction."""
    return make_instances(np.zeros((0, *label.shape), bool))


def messy(label, seed=0):
    """Moved, doubled, confused and invented objects, on void and on groups, with equal scores."""
    random = np.random.default_rng(seed)
    masks, classes = objects_of(label)
    masks, classes = list(masks), list(classes)
    for mask, index in list(zip(masks, classes)):
        masks.append(np.roll(mask, random.integers(-12, 13), axis=1))
        classes.append(index if random.random() < 0.7 else int(random.integers(8)))
    for number in (26, 24, 4, 29001, 7):
        region = label == number
        masks.append(np.roll(region, random.integers(-6, 7), axis=0) & (label != 1))
        classes.append(int(random.integers(8)) if number > 1000 else [2, 0][number == 24])
    masks.append(np.zeros(label.shape, bool))
    classes.append(2)
    kept = random.random(len(masks)) < 0.8
    scores = np.round(random.random(len(masks)), 1)
    return make_instances(np.array(masks)[kept], scores[kept], np.array(classes)[kept])


def slow_distances(label, disparity):
    """{id: (median distance, share measured)} of all ids, pixel by pixel."""
    found = {}
    for row_of_ids, row_of_values in zip(label.tolist(), disparity.tolist()):
        for number, value in zip(row_of_ids, row_of_values):
            found.setdefault(number, []).append(value)
    result = {}
    for number, values in found.items():
        metres = sorted(FX * BASELINE / ((v - 1) / 256) for v in values if v > 0)
        half = len(metres) // 2
        median = -1.0
        if metres:
            median = metres[half] if len(metres) % 2 else (metres[half - 1] + metres[half]) / 2
        result[number] = (median, len(metres) / len(values))
    return result


def official_score(root, predictions, folder, with_distance):
    """Averages of the official script, run on files as its documentation asks for them.

    Args:
        root (Path): the tree.
        predictions (dict): Instances by stem.
        folder (Path): gets the predictions.
        with_distance (bool): hand it distances of :func:`slow_distances`.

    Returns:
        dict: fractions, ``computeAverages`` of the script.
    """
    files = {stem: label_files(root)[stem] for stem in predictions}
    texts = [write_prediction(folder, stem, found) for stem, found in predictions.items()]
    known = instances2dict([str(path) for path in files.values()])
    for path in files.values() if with_distance else ():
        city, stem = path.parent.name, path.name.removesuffix("_gtFine_instanceIds.png")
        disparity = root / "disparity" / "val" / city / f"{stem}_disparity.png"
        distances = slow_distances(read_label(path), read_label(disparity))
        for entry in (entry for entries in known[str(path)].values() for entry in entries):
            entry["medDist"], entry["distConf"] = distances[entry["instID"]]
    settings = copy.copy(official.args)
    settings.gtInstancesFile = str(folder / "gtInstances.json")
    (folder / "gtInstances.json").write_text(json.dumps(known))
    settings.predictionPath, settings.JSONOutput = str(folder), False
    settings.distanceAvailable, settings.quiet = with_distance, True
    mended = {"np": _Numpy(), "writeDict2JSON": lambda *_: None}
    with mock.patch.multiple(official, **mended), contextlib.redirect_stdout(io.StringIO()):
        return official.evaluateImgLists(texts, [str(p) for p in files.values()], settings)[
            "averages"
        ]


def write_prediction(folder, stem, instances):
    """The files of one image's predictions; returns the path of the list."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, mask in enumerate(instances.pred_masks.numpy()):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{stem}_{number}.png")
        class_id = list(CLASS_IDS.values())[int(instances.pred_classes[number])]
        lines.append(f"{stem}_{number}.png {class_id} {float(instances.scores[number])!r}\n")
    text = folder / f"{stem}_pred.txt"
    text.write_text("".join(lines))
    return str(text)


class _Numpy:
    """numpy with the function that the official script uses and numpy 2.4 has lost."""

    in1d = staticmethod(np.isin)

    def __getattr__(self, name):
        return getattr(np, name)
