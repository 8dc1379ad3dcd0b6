"""Colours that tell neighbouring instances apart and stay the same for the same instance id.

They are mixtures of the palette of Okabe and Ito (Color Universal Design, 2008,
https://jfly.uni-koeln.de/color/), whose hues stay apart for readers who do not tell red from green
(protanopia, deuteranopia) or blue from yellow (tritanopia).
"""

import numpy as np

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
        "FCFAD9 1A80BA 86C76B F0D5D8 C77200 33B18F DAE9A7 9AD2F2 EBB828 8A6B99 "
        "308C52 EBE4EE D186B0 90A83F D6ECCE 67BFD6 F2CF80 BA6771 2D8FC6 E4A27F "
        "B2E2D5 F9EDBC DE7E00 A36186 C2C8DE 8ACFA4 BE5B26 6676AC F3E06F 16A490 "
        "DDF0FB B8A0C3 A2BD46 22878B ECC7CB D06C54 78C3ED BCE0AD 8591BD EDC837 "
        "50B776 E0D6E5 E28F00 E4F3DE 1682C0 F6EF8E D55E00 DD9CA4 54ADDF A0D48C "
        "139382 CCBBD4 E8B010 BC614B CCECE3 9977AA C3DB72 66C5AB A3ACCE FCF6D6 "
        "E0936A 2B93CE B3DAF1 EFD746 BA8D0D 40B2B6 E3A698 E0E4EE 6CAE51 F8E2B2 "
        "D3808A 348CA3 99D8C7 EEBC4C D3652A 709EC7 F8F2A0 D8EFE1 63BF85 D6C9DD "
        "E28E4C F2CFB2 7583B5 89CAF0 D694B9 F0F6DC CE727D BCD760 ADC7DF EEBF99 "
    ),
    dtype=np.uint8,
).reshape(-1, 3)


def lightened(color, step):
    """A colour with some white or black in it.

    Args:
        color (tuple[int, int, int]): RGB, 0 to 255.
        step (float): share of white, in [0, 1]; below 0, in [-1, 0], of black.

    Returns:
        tuple[int, int, int]: RGB, 0 to 255.
    """
    end = 255 if step > 0 else 0
    return tuple(round(channel + (end - channel) * abs(step)) for channel in color)


def instance_color(instance_id):
    """The colour of one instance, the same in every picture.

    Args:
        instance_id (int): 1 or more; 0, the background, is black.

    Returns:
        tuple[int, int, int]: RGB, 0 to 255.
    """
    if instance_id <= 0:
        return (0, 0, 0)
    return tuple(CYCLE[(instance_id - 1) % len(CYCLE)].tolist())


def instance_colors(count):
    """Colour table of the ids 0 to ``count``: ndarray (count + 1, 3) uint8, RGB."""
    return np.array([instance_color(i) for i in range(count + 1)], dtype=np.uint8)
