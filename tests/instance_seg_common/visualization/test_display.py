"""Instances over an image at its display size."""

from instance_seg_common.visualization.display import tag_texts


def test_crowded_pictures_carry_no_text():
    many = dict.fromkeys(range(1, 61), 0)
    assert tag_texts(many, None, ("a", "b")) == {}
    assert tag_texts({1: 1}, {1: 0.956}, ("a", "b")) == {1: "b 96%"}
    assert tag_texts({1: 7}, None, ("a", "b")) == {1: "class 7"}
