"""Colours that tell neighbouring instances apart and stay the same for the same instance id.

They are mixtures of the palette of Okabe and Ito (Color Universal Design, 2008,
https://jfly.uni-koeln.de/color/), whose hues stay apart for readers who do not tell red from green
(protanopia, deuteranopia) or blue from yellow (tritanopia).
"""

from collections.abc import Sequence

import numpy as np

from ..evaluation.error_kinds import same_object

Color = tuple[int, int, int]  # RGB, 0 to 255

# Okabe-Ito without its black, which is the background here; around the circle of hues.
OKABE_ITO = {
    "vermillion": (213, 94, 0),
    "orange": (230, 159, 0),
    "yellow": (240, 228, 66),
    "green": (0, 158, 115),
    "sky": (86, 180, 233),
    "blue": (0, 114, 178),
    "purple": (204, 121, 167),
}
# Of the ids 1 to 100; then they begin again. The first seven are the seven hues, in steps of
# lightness that keep all of them apart for all the kinds of vision above. The others lie between
# two neighbouring hues, with white or black in them. Readers with less colour to see cannot tell
# 100 colours apart; so the next one is always that which differs most from the ids before it, the
# more the closer they are, as neighbours in an image mostly have ids close to each other.
# tests/instance_seg_common/visualization/test_colors_deficiency.py has this search and measures it.
CYCLE = np.frombuffer(
    bytes.fromhex(
        "C05500 009E73 56B4E9 E69F00 B86D96 BFDCEC F2E85E 609A48 E2ABB1 949FC5 "
        "E1EDB8 1A80BA C77200 63BF85 EBC221 CCBBD4 308C52 8A6B99 B1DFC2 40A4DB "
        "90A83F F3D299 CE727D 9AD2F2 A385B2 E3A698 BCD760 BC614B A3ACCE BA8D0D "
        "F9F4B3 16A490 6676AC EBC9DC 93CD7B 22878B 67BCEB E8A91A C9E6BD BA6771 "
        "F0E442 2B93CE B3DAF1 DA8976 CAE083 44B6A7 C46300 9977AA E9B294 B2BAD6 "
        "369E5C 99D8C7 A2BD46 A36186 709EC7 F7E6A6 D7743F 1682C0 DBA1C1 D8CD3B "
        "50B776 CF8F00 89CAF0 ECC7CB 27989D BE5B26 BCE0AD D88E97 6CAE51 F6EF8E "
        "C2C8DE 7583B5 66C5AB EDBC66 B8A0C3 DD7E33 1AA881 D2E495 CC79A7 EED332 "
        "9ED7B3 E69E66 139382 E0AFCA D3652A 8591BD C0B635 7ABFE6 DD9CA4 A0D48C "
        "D57A65 F3E06F 2BA9AE AADAF4 EBB266 338EC1 F8EDAD 80CEB9 D3808A C2AECC "
    ),
    dtype=np.uint8,
).reshape(-1, 3)


def lightened(color: Color, step: float) -> Color:
    """A colour with some white or black in it.

    Args:
        color: without it.
        step: share of white, in [0, 1]; below 0, in [-1, 0], of black.
    """
    end = 255 if step > 0 else 0
    red, green, blue = (round(channel + (end - channel) * abs(step)) for channel in color)
    return red, green, blue


def instance_color(instance_id: int) -> Color:
    """The colour of one instance, the same in every picture.

    Args:
        instance_id: 1 or more; 0, the background, is black.
    """
    if instance_id <= 0:
        return (0, 0, 0)
    red, green, blue = CYCLE[(instance_id - 1) % len(CYCLE)].tolist()
    return red, green, blue


def instance_colors(count: int) -> np.ndarray:
    """Colour table of the ids 0 to ``count``: (count + 1, 3) uint8, RGB."""
    return np.array([instance_color(i) for i in range(count + 1)], dtype=np.uint8)


def color_tables(reference: np.ndarray, maps: Sequence[np.ndarray]) -> "list[np.ndarray]":
    """Colour tables of several label maps: one colour for one object, wherever it appears.

    Args:
        reference: (H, W) int; its ids have their own colours.
        maps: (H, W) int each, with ids up to K.

    Returns:
        (K + 1, 3) uint8 for each map.
    """
    tables = []
    for labels, shared in zip(maps, shared_ids(reference, maps)):
        table = instance_colors(int(labels.max(initial=0)))
        for label, number in shared.items():
            table[label] = instance_color(number)
        tables.append(table)
    return tables


def shared_ids(reference: np.ndarray, maps: Sequence[np.ndarray]) -> "list[dict[int, int]]":
    """Ids that mean the same object in all label maps.

    An object of a map that the reference lacks is looked up among those that earlier maps have
    beyond the reference; what is there neither gets the next free number.

    Args:
        reference: (H, W) int; its ids stay.
        maps: (H, W) int each.

    Returns:
        {id of the map: common id} for each map.
    """
    taken = free = int(reference.max(initial=0))
    strangers, result = [], []
    for labels in maps:
        shared = same_object(reference, labels)
        used = {0, *shared.values()}
        for earlier, numbers in strangers:
            for label, other in same_object(earlier, labels).items():
                if label not in shared and numbers.get(other, 0) not in used:
                    shared[label] = numbers[other]
                    used.add(numbers[other])
        for label in np.unique(labels[labels > 0]).tolist():
            if label not in shared:
                free += 1
                shared[label] = free
        strangers.append((labels, {k: v for k, v in shared.items() if v > taken}))
        result.append(shared)
    return result
