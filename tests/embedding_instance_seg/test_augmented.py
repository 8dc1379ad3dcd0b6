"""Eight turns in one: exact on equivariant networks, means in closed form, and what is refused."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from tiny_embedding import item
from torch.nn import functional as F

from embedding_instance_seg import add_embedding_instance_seg_config
from embedding_instance_seg.augmented import TURNS, augmented_maps
from embedding_instance_seg.head import positions
from instance_seg_common.errors import UserError

UNIT, STRIDE = 7.0, 2


def distances(embedding):
    """(E, h, w) -> (h w, h w) squared distances of all pairs of cells."""
    points = embedding.flatten(1).T.double()
    return torch.cdist(points, points).square()


def gradient(x):
    """(B, h, w) -> (B, 2, h, w): right minus left and below minus above, 0 beyond the rim."""
    x = F.pad(x, (1, 1, 1, 1))
    across = x[:, 1:-1, 2:] - x[:, 1:-1, :-2]
    return torch.stack([across, x[:, 2:, 1:-1] - x[:, :-2, 1:-1]], dim=1)


def equivariant(images, image_sizes):
    """Maps that turn with the image, on a grid of stride 2: places are the pixel's own and an
    offset along the gradient."""
    assert all(h <= images.shape[-2] and w <= images.shape[-1] for h, w in image_sizes)
    cells = F.avg_pool2d(images, STRIDE)
    height, width = cells.shape[-2:]
    places = positions(height, width, STRIDE) / UNIT + gradient(cells[:, 0])
    return {
        "semantic": cells[:, :2] * 3,
        "embedding": torch.cat([places, cells], dim=1),
        "seed": cells[:, 2],
    }


def test_there_are_eight_turns_and_each_is_undone():
    image = torch.arange(24.0).view(1, 1, 4, 6)
    turned = {tuple(turn.there(image).flatten().tolist()) for turn in TURNS}
    assert len(turned) == 8
    for turn in TURNS:
        assert torch.equal(turn.back(turn.there(image)), image)
        assert turn.sizes([(4, 6)]) == [tuple(turn.there(image).shape[-2:])]


@pytest.mark.parametrize("turn", TURNS)
def test_points_go_back_to_where_the_turned_pixels_were(turn):
    places = positions(4, 6, STRIDE)[None]
    turned = turn.there(places)  # which place of the image is seen at each pixel of the turned one
    found = turn.points_back(positions(*turned.shape[-2:], STRIDE)[None], torch.tensor([12.0, 8.0]))
    torch.testing.assert_close(found, turned)


@pytest.mark.parametrize("shape", [(1, 3, 12, 12), (2, 3, 8, 20), (1, 3, 6, 2)])
def test_a_network_that_turns_with_the_image_says_the_same(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    sizes = [(shape[2] - 1, shape[3] - 1)] * shape[0]  # not divisible: the last ones are padding
    expected = equivariant(images, sizes)
    found = augmented_maps(equivariant, images, sizes, position_unit=UNIT)
    for name in ("semantic", "seed"):
        torch.testing.assert_close(found[name], expected[name])
    assert found["embedding"].shape[1] == 2 + 8 * 3
    torch.testing.assert_close(found["embedding"][:, :2], expected["embedding"][:, :2])
    for one, other in zip(found["embedding"], expected["embedding"]):
        torch.testing.assert_close(distances(one), distances(other), atol=1e-5, rtol=1e-5)


def numbered(images, image_sizes):
    """Maps that know nothing of a turn but its number."""
    number = numbered.calls = numbered.calls + 1
    generator = torch.Generator().manual_seed(number)
    height, width = images.shape[-2:]
    embedding = torch.rand(1, 5, height, width, generator=generator)
    numbered.seen.append(embedding)
    return {"semantic": torch.full((1, 2, height, width), number**2.0), "embedding": embedding}


@pytest.mark.parametrize("unit", [None, UNIT])
def test_means_of_maps_and_of_squared_distances(unit):
    numbered.calls, numbered.seen = 0, []
    found = augmented_maps(numbered, torch.zeros(1, 3, 4, 6), [(4, 6)], position_unit=unit)
    assert (found["semantic"] == sum(n**2 for n in range(1, 9)) / 8).all()
    places = 2 if unit else 0
    beside = [turn.back(x)[0, places:] for turn, x in zip(TURNS, numbered.seen)]
    expected = sum(map(distances, beside)) / 8
    torch.testing.assert_close(distances(found["embedding"][0, places:]), expected)


HEADS = {
    "plain": {},
    "semi-convolutional": {"position_unit": 16.0},
    "seeded": {"position_unit": 16.0, "seeds": True, "inference": {"clustering": "seeded"}},
    "stride 4": {"stride": 4, "position_unit": 16.0},
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@torch.no_grad()
def test_of_an_augmented_model_a_turned_image_has_the_turned_maps(build_tiny, head):
    model = build_tiny(**head).eval()
    image = item(32, 48)["image"]
    turned = {turn: turn.there(image) for turn in TURNS}
    alone = model.network([{"image": image}])[0]
    assert not torch.allclose(
        model.network([{"image": image.flip(-1)}])[0]["semantic"].flip(-1), alone["semantic"]
    )
    model.augmented = True
    expected, _ = model.network([{"image": image}])
    for turn, image in turned.items():
        found, _ = model.network([{"image": image}])
        for name in set(found) - {"embedding"}:
            torch.testing.assert_close(turn.back(found[name]), expected[name])
        found = turn.back(found["embedding"])[0]
        expected_distances = distances(expected["embedding"][0])
        torch.testing.assert_close(distances(found), expected_distances, atol=1e-4, rtol=1e-4)


def test_predictions_keep_the_contract_and_training_sees_no_turns(build_tiny):
    model = build_tiny(**HEADS["seeded"])
    batch = [item(30, 44), item(37, 25, [(4, 4, 20, 20)])]
    expected = model(batch)
    model.augmented = True
    assert all(torch.equal(model(batch)[name], loss) for name, loss in expected.items())
    for one, output in zip(batch, model.eval()(batch)):
        instances = output["instances"]
        assert instances.pred_masks.shape[1:] == one["image"].shape[1:]
        assert instances.pred_masks.flatten(1).any(dim=1).all()
    assert all(
        len(parts["embedding"]) == len(parts["centers"].T) for parts in model.internals(batch)
    )


@pytest.mark.parametrize("enabled", [False, True])
def test_the_stock_key_decides(enabled):
    cfg = get_cfg()
    add_embedding_instance_seg_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "EmbeddingInstanceSeg", "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    cfg.TEST.AUG.ENABLED = enabled
    assert build_model(cfg).augmented == enabled
    cfg.MODEL.EMBEDDING_INSTANCE_SEG.COORDINATES = True
    if enabled:
        with pytest.raises(UserError, match=r"TEST\.AUG\.ENABLED.*COORDINATES"):
            build_model(cfg)
