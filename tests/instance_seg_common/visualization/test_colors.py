import numpy as np

from instance_seg_common.visualization.colors import LUMA, instance_color, instance_colors


def test_color_depends_on_the_id_alone():
    assert instance_color(5) == tuple(instance_colors(400)[5])
    assert instance_color(0) == (0, 0, 0)


def test_sixty_neighbours_differ():
    table = instance_colors(60)[1:].astype(int)
    distance = np.abs(table[:, None] - table[None]).sum(axis=2)
    assert distance[~np.eye(60, dtype=bool)].min() > 8
    # Ids that follow each other are usually neighbours in the image.
    assert distance[np.arange(59), np.arange(1, 60)].min() > 120


def test_every_color_shows_on_black():
    assert (instance_colors(300)[1:] / 255 @ LUMA).min() > 0.4
