from instance_seg_common.visualization.colors import instance_color, instance_colors


def test_color_depends_on_the_id_alone():
    assert instance_color(5) == tuple(instance_colors(400)[5])
    assert instance_color(0) == (0, 0, 0)


def test_every_color_shows_on_black():
    assert (instance_colors(300)[1:] / 255 @ (0.299, 0.587, 0.114)).min() > 0.4
