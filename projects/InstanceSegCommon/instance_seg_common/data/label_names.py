"""Names of files and folders that nearly say what belongs together."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple, Optional

# What people write behind, or before, the name of an image to say what a file shows.
_OF_LABELS = (
    r"cp|masks?|labels?|labelmaps?|segs?|segmentations?|instances?|instance_?ids?|gt|ground_?truth"
)
_KINDS = rf"(?:{_OF_LABELS}|imgs?|images?|rgb|raw)"
_BEHIND = re.compile(rf"(?:[-_. ]{_KINDS})+$", re.IGNORECASE)
_BEFORE = re.compile(rf"^(?:{_KINDS}[-_. ])+", re.IGNORECASE)
_LABEL_BEHIND = re.compile(rf"[-_. ](?:{_OF_LABELS})$", re.IGNORECASE)
_NUMBER = re.compile(r"[ _.-]?\d+$")
_REST = re.compile(r"[-_. ]?[^\W\d_]*$")  # between the stem of an image and a number
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "labelmaps", "instances", "gt", "ground_truth",
    "segmentations", "annotations",
)  # fmt: skip


class NearPair(NamedTuple):
    """Stems of an image and of a label that are alike, and the suffixes that would pair them; None
    each where no suffix would."""

    image: str
    label: str
    suffixes: Optional[tuple[str, str]]


def near_pairs(images: Collection[str], labels: Collection[str]) -> "list[NearPair]":
    """Pairs of an image and a label whose stems differ in what people add to a name.

    Args:
        images, labels: stems; one that stands in both is not paired with itself.
    """
    of_core: dict[str, list[str]] = {}
    for label in labels:
        of_core.setdefault(_core(label), []).append(label)
    pairs = []
    for image in images:
        alike = [label for label in of_core.get(_core(image), []) if label != image]
        if len(alike) == 1:
            pairs.append(NearPair(image, alike[0], _suffixes(image, alike[0])))
    return pairs


def most_frequent_suffixes(pairs: "Iterable[NearPair]") -> Optional[tuple[str, str]]:
    """The suffixes of images and labels that pair most; None if none pair any."""
    counts = Counter(pair.suffixes for pair in pairs if pair.suffixes is not None)
    return counts.most_common(1)[0][0] if counts else None


def suffix_of_objects(images: Collection[str], labels: Iterable[str]) -> Optional[str]:
    """What stands between stem and number, if labels are stems of images with numbers behind them.

    Args:
        images, labels: stems.

    Returns:
        Such as "_mask" for a_mask1, a_mask2; None where fewer than half of the images have such
        labels, or no image has more than one.
    """
    number_of: dict[str, Counter[str]] = {}
    known = set(images)
    for label in labels:
        without_number = _NUMBER.sub("", label)
        if without_number == label:
            continue
        for end in range(len(without_number), 0, -1):
            rest = without_number[end:]
            if without_number[:end] in known and _REST.match(rest):
                number_of.setdefault(rest, Counter())[without_number[:end]] += 1
                break
    if not number_of:
        return None
    suffix, counts = max(number_of.items(), key=lambda item: len(item[1]))
    enough = 2 * len(counts) >= len(known) and max(counts.values()) > 1
    return suffix if enough else None


def like(names: Iterable[str], known: Collection[str]) -> Optional[str]:
    """The first of some names that is a known one in any case, in the order of the known."""
    by_small = {name.casefold(): name for name in names}
    return next((by_small[name] for name in known if name in by_small), None)


def _core(stem: str) -> str:
    """A stem without what people add to it, in small letters."""
    folder, slash, name = stem.casefold().rpartition("/")
    return folder + slash + _BEFORE.sub("", _BEHIND.sub("", name))


def _suffixes(image: str, label: str) -> Optional[tuple[str, str]]:
    """The ends of two stems that begin alike; None where they do not, or the image is no image."""
    core = image if label.startswith(image) else _BEHIND.sub("", image)
    if not label.startswith(core) or _LABEL_BEHIND.search(image):
        return None
    return image[len(core) :], label[len(core) :]
