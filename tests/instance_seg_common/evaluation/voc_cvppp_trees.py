"""Small trees in the exact format of Pascal VOC 2012, SBD and CVPPP's leaf challenge."""

import numpy as np
from PIL import Image
from scipy.io import savemat

PERSON, CAR, AEROPLANE = 15, 7, 1  # VOC's class ids
SIZE = (48, 64)  # height, width
VOC_TRAIN, VOC_VAL = ("2007_000001", "2007_000002"), ("2007_000003", "2007_000004")
# SBD's lists overlap with both of VOC's.
SBD_LISTS = {
    "train": ("2007_000001", "2008_000001", "2007_000003"),
    "val": ("2008_000002", "2007_000004"),
}


def voc_palette():
    """VOC's colour map: the bits of an index dealt out to red, green and blue; (256, 3) uint8."""
    colors = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            for channel in range(3):
                set_here = index >> (3 * bit + channel) & 1
                colors[index, channel] |= set_here << (7 - bit)
    return colors


def save_with_palette(array, path):
    """Ids (H, W) as an 8 bit PNG with a palette, as VOC and CVPPP store them."""
    image = Image.fromarray(array.astype(np.uint8), mode="P")
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path)


def voc_scene(number):
    """Ids and classes (H, W) uint8 of an image: a person, a car, and a border of void pixels."""
    objects, classes = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for k, (category, row, column, side) in enumerate(
        [(PERSON, 4, 4 + number % 5, 12), (CAR, 24, 30, 16), (PERSON, 26, 4, 10)], start=1
    ):
        border = slice(row - 1, row + side + 1), slice(column - 1, column + side + 1)
        inside = slice(row, row + side), slice(column, column + side)
        objects[border] = classes[border] = 255
        objects[inside], classes[inside] = k, category
    return objects, classes


def save_image(path, seed):
    noise = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_list(path, stems):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))


def write_voc(root, folder="VOCdevkit/VOC2012"):
    """VOC 2012 below a root: two images in each list, and one that is in none."""
    tree = root / folder
    for name in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (tree / name).mkdir(parents=True)
    for split, stems in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        write_list(tree / "ImageSets" / "Segmentation" / f"{split}.txt", stems)
    for number, stem in enumerate((*VOC_TRAIN, *VOC_VAL)):
        save_image(tree / "JPEGImages" / f"{stem}.jpg", number)
        objects, classes = voc_scene(number)
        save_with_palette(objects, tree / "SegmentationObject" / f"{stem}.png")
        save_with_palette(classes, tree / "SegmentationClass" / f"{stem}.png")
    save_image(tree / "JPEGImages" / "2009_000009.jpg", 9)  # most of VOC's images have no masks
    return tree


def sbd_scene(number):
    """Ids (H, W) uint8 and classes (N, 1) of an image of SBD: an aeroplane and a car."""
    ids = np.zeros(SIZE, np.uint8)
    ids[5:15, 5 + number : 25] = 1
    ids[30:40, 20:50] = 2
    return ids, np.array([[AEROPLANE], [CAR]], np.uint8)


def write_mat(path, ids, categories, **more):
    """``inst/STEM.mat`` as SBD stores it."""
    boundaries = np.zeros((len(categories), 1), dtype=object)
    content = {"Segmentation": ids, "Boundaries": boundaries, "Categories": categories, **more}
    savemat(path, {"GTinst": content}, do_compression=True)


def write_sbd(root):
    """SBD below a root."""
    tree = root / "benchmark_RELEASE" / "dataset"
    for name in ("img", "inst"):
        (tree / name).mkdir(parents=True)
    for split, stems in SBD_LISTS.items():
        write_list(tree / f"{split}.txt", stems)
    for number, stem in enumerate(sorted({s for stems in SBD_LISTS.values() for s in stems})):
        save_image(tree / "img" / f"{stem}.jpg", 20 + number)
        write_mat(tree / "inst" / f"{stem}.mat", *sbd_scene(number))
    return tree


def leaves(number):
    """Ids (H, W) uint8 of a plant: four leaves around its centre, and more of them by number."""
    labels = np.zeros(SIZE, np.uint8)
    for k in range(4 + number % 3):
        row, column = divmod(k, 3)
        labels[4 + 20 * row : 18 + 20 * row, 4 + 19 * column : 20 + 19 * column] = k + 1
    return labels


def write_cvppp(root, folder="cvppp/A1", count=10):
    """Plants of one subset below a root."""
    tree = root / folder
    tree.mkdir(parents=True)
    for number in range(1, count + 1):
        stem = f"plant{number:03d}"
        save_image(tree / f"{stem}_rgb.png", number)
        labels = leaves(number)
        save_with_palette(labels, tree / f"{stem}_label.png")
        Image.fromarray((labels > 0).astype(np.uint8) * 255).save(tree / f"{stem}_fg.png")
    return tree
