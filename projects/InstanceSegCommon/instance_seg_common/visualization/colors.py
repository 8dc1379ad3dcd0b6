"""Colours that tell neighbouring instances apart and stay the same for the same instance id."""

import colorsys

import numpy as np

# Consecutive multiples of the golden ratio conjugate spread evenly over the hue circle, however
# many there are.
GOLDEN_RATIO = 0.6180339887498949
# Saturation and value alternate, so that two ids whose hues happen to be near still differ. All are
# light enough for dark microscopy images and saturated enough for photographs.
TONES = ((0.75, 1.0), (0.95, 0.9), (0.5, 1.0))
# Weights of perceived brightness (Rec. 601), and the least that shows on black.
LUMA = np.array((0.299, 0.587, 0.114))
MIN_LUMA = 0.42


def instance_color(instance_id):
    """The colour of one instance, the same in every picture.

    Args:
        instance_id (int): 1 or more; 0, the background, is black.

    Returns:
        tuple[int, int, int]: RGB, 0 to 255.
    """
    if instance_id <= 0:
        return (0, 0, 0)
    saturation, value = TONES[instance_id % len(TONES)]
    rgb = np.array(colorsys.hsv_to_rgb((instance_id * GOLDEN_RATIO) % 1.0, saturation, value))
    luma = float(rgb @ LUMA)
    if luma < MIN_LUMA:  # blues: mixed with white as far as it takes
        rgb += (1 - rgb) * (MIN_LUMA - luma) / (1 - luma)
    return tuple(int(channel) for channel in np.rint(255 * rgb))


def instance_colors(count):
    """Colour table of the ids 0 to ``count``: ndarray (count + 1, 3) uint8, RGB."""
    return np.array([instance_color(i) for i in range(count + 1)], dtype=np.uint8)
