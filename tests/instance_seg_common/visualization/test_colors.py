import numpy as np

from instance_seg_common.visualization.colors import (
    color_tables,
    instance_color,
    instance_colors,
    shared_ids,
)


def test_color_depends_on_the_id_alone():
    assert instance_color(5) == tuple(instance_colors(400)[5])
    assert instance_color(0) == (0, 0, 0)


def test_every_color_shows_on_black():
    assert (instance_colors(300)[1:] / 255 @ (0.299, 0.587, 0.114)).min() > 0.4


def test_prediction_of_nothing_has_a_color_of_its_own(squares):
    pred = squares["labels"].copy()
    pred[pred == 1] = 0
    pred[25:30, 20:30] = 1
    (table,) = color_tables(squares["labels"], [pred])
    assert tuple(table[1]) == instance_color(5) and tuple(table[3]) == instance_color(3)


def test_what_several_models_invent_has_one_color(squares):
    labels = squares["labels"]
    maps = [labels.copy() for _ in range(3)]
    maps[0][25:35, 20:30] = 5
    maps[1][58:63, 55:65] = 5
    maps[1][25:35, 21:30] = 6
    maps[2][58:63, 56:65] = 7
    numbers = shared_ids(labels, maps)
    assert [n[i] for n, i in zip(numbers, (5, 6, 7))] == [5, 5, 6] and numbers[1][5] == 6
    assert all(n[i] == i for n in numbers for i in range(1, 5))


def test_one_color_is_not_given_twice_in_a_map(squares):
    """Two pieces of what an earlier model invented in one: the larger has its colour."""
    nothing = np.zeros_like(squares["labels"])
    whole, halves = nothing.copy(), nothing.copy()
    whole[10:30, 10:50] = 1
    halves[10:30, 10:35], halves[10:30, 35:50] = 1, 2
    numbers = shared_ids(nothing, [whole, halves, halves])
    assert numbers == [{1: 1}, {1: 1, 2: 2}, {1: 1, 2: 2}]
    empty = color_tables(nothing, [nothing])
    assert len(empty) == 1 and empty[0].shape == (1, 3)
