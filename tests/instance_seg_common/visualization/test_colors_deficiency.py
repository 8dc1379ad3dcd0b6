"""Colours as readers with a colour vision deficiency see them.

The simulation is that of Machado, Oliveira and Fernandes, "A Physiologically-based Model for
Simulation of Color Vision Deficiency", IEEE TVCG 15(6), 2009, at its highest severity, on linear
RGB. Differences are CIEDE2000, of which about 2 is just visible side by side.
"""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from instance_seg_analysis.internals import embedding, pictures
from instance_seg_common.visualization.colors import (
    CYCLE,
    OKABE_ITO,
    instance_color,
    instance_colors,
    lightened,
)
from instance_seg_common.visualization.errors_overlay import ERROR_COLORS

FIRST = {
    "vermillion": -0.1,
    "green": 0,
    "sky": 0,
    "orange": 0,
    "purple": -0.1,
    "blue": 0.75,
    "yellow": 0.15,
}
READABLE = 4.5  # contrast that WCAG 2 asks of text
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colors):
    """(N, 3) sRGB in [0, 255] as linear RGB in [0, 1]."""
    unit = np.asarray(colors, dtype=float) / 255
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


def seen(colors, vision):
    """(N, 3) sRGB in [0, 255] as it is seen, sRGB in [0, 1]."""
    light = np.clip(linear(colors) @ np.array(VISIONS[vision]).T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def differences(colors, vision):
    """(N, N) CIEDE2000."""
    lab = rgb2lab(seen(colors, vision))
    return deltaE_ciede2000(lab[:, None], lab[None])


def least(colors, vision):
    """The difference of the two colours that are most alike."""
    return differences(colors, vision)[np.triu_indices(len(colors), 1)].min()


def contrast_on_black(colors):
    """(N,) contrast ratio of WCAG 2."""
    return (linear(colors) @ (0.2126, 0.7152, 0.0722) + 0.05) / 0.05


def test_the_simulation_confuses_red_and_green():
    """The pair of many a picture; what has no hue stays as it is."""
    pair = [(80, 220, 100), (255, 170, 0)]
    assert least(pair, "normal") > 40
    assert max(least(pair, "protanopia"), least(pair, "deuteranopia")) < 10
    for vision in VISIONS:
        np.testing.assert_allclose(seen([(200, 200, 200)], vision), 200 / 255, atol=0.01)


def mixtures():
    """(N, 3) colours between neighbouring hues, with white or black, that show on black."""
    hues = list(OKABE_ITO.values())
    pairs = zip(hues, hues[1:] + hues[:1])
    between = [np.add(a, np.subtract(b, a) * k / 4) for a, b in pairs for k in range(4)]
    colors = [lightened(c, k / 10) for c in between for k in range(-2, 7)]
    first = [lightened(OKABE_ITO[hue], step) for hue, step in FIRST.items()]
    colors = np.array(first + sorted(set(colors) - set(first)))
    return colors[(contrast_on_black(colors) > READABLE) & (colors @ (0.299, 0.587, 0.114) > 102)]


def search(count=100, window=40, half=4):
    """The cycle of instance colours.

    One after the other gets the unused mixture whose difference from the ids within ``window``,
    before and after it around the cycle, is largest; a difference at distance d counts
    1 + (d - 1) / half times. With normal vision it has to be 1.5 times that with the others.
    """
    colors = mixtures()
    tables = [differences(colors, v) / (1.5 if v == "normal" else 1) for v in VISIONS]
    table = np.min(tables, axis=0)
    chosen = np.full(count, -1)
    chosen[: len(FIRST)] = range(len(FIRST))
    weights = 1 + np.arange(window) / half
    for place in range(len(FIRST), count):
        worth = np.full(len(colors), np.inf)
        for step, weight in enumerate(weights, start=1):
            for other in (chosen[place - step], chosen[(place + step) % count]):
                if other >= 0:
                    worth = np.minimum(worth, table[other] * weight)
        worth[chosen[chosen >= 0]] = -1
        chosen[place] = worth.argmax()
    return colors[chosen]


def test_the_colors_are_those_of_the_search():
    np.testing.assert_array_equal(CYCLE, search())


@pytest.mark.parametrize("vision", VISIONS)
def test_the_first_instances_differ(vision):
    assert least(instance_colors(7)[1:], vision) > 12


@pytest.mark.parametrize("vision", VISIONS)
def test_instances_that_follow_each_other_differ(vision):
    table = differences(instance_colors(400)[1:], vision)
    near = [np.diagonal(table, step).min() for step in range(1, 9)]
    assert min(near[:4]) > 6.5 and min(near) > 3.5


def test_colors_repeat_after_100_ids_only():
    assert len(np.unique(instance_colors(100), axis=0)) == 101
    assert instance_color(101) == instance_color(1)


def test_texts_in_the_colors_can_be_read_on_black():
    assert contrast_on_black(instance_colors(400)[1:]).min() > READABLE
    assert contrast_on_black(list(ERROR_COLORS.values())).min() > READABLE


@pytest.mark.parametrize("vision", VISIONS)
def test_kinds_of_error_differ(vision):
    """From each other and from the white seams."""
    assert least([*ERROR_COLORS.values(), (255, 255, 255)], vision) > 12


@pytest.mark.parametrize("vision", VISIONS)
def test_heat_maps_become_brighter_for_all(vision):
    lightness = rgb2lab(seen(pictures.RAMP, vision))[:, 0]
    assert np.diff(lightness).min() > 8


@pytest.mark.parametrize("vision", VISIONS)
def test_classes_differ_from_what_has_none(vision):
    colors = [embedding.PLAIN, *(instance_color(i) for i in range(1, 4))]
    assert least(colors, vision) > 6


def test_steps_of_lightness():
    assert lightened((100, 200, 0), 0.5) == (178, 228, 128)
    assert lightened((100, 200, 0), -0.5) == (50, 100, 0)
    assert lightened(OKABE_ITO["sky"], 0) == (86, 180, 233)
