import numpy as np
import pytest
import torch

from instance_seg_analysis.internals import embedding, pictures
from instance_seg_analysis.methods.base import compute_internals, internals_panel
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import instance_color

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def internals():
    """Two squares whose 4-D embeddings lie far apart, and some left-over pixels."""
    clusters = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    clusters[8:24, 8:24], clusters[20:40, 36:60] = 1, 2
    foreground = (clusters > 0).float() * 0.9
    foreground[42:46, 2:8] = 0.8
    centers = torch.tensor([[3.0, 0.0, 0.0, 1.0], [-3.0, 1.0, 0.0, 0.0]])
    table = torch.cat([torch.zeros(1, 4), centers])
    noise = torch.randn(4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return {
        "embedding": table[clusters].permute(2, 0, 1) + 0.1 * noise,
        "semantic": torch.where(foreground > 0.5, 0, 1),
        "foreground": foreground,
        "foreground_mask": foreground > 0.5,
        "clusters": clusters,
        "centers": centers,
    }


def image():
    return np.full((96, 128, 3), 90, dtype=np.uint8)


def test_components_are_those_of_the_singular_value_decomposition():
    points = torch.randn(200, 6, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7)
    found = embedding.principal_components(points, 3)
    centred = points.double() - points.double().mean(dim=0)
    _, values, rows = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close((found.axes.T @ rows[:3].T).abs(), torch.eye(3).double())
    share = float(values[:3].square().sum() / values.square().sum())
    assert found.share == pytest.approx(share)
    # The sign is fixed: mirrored points have the same axes.
    torch.testing.assert_close(embedding.principal_components(-points, 3).axes, found.axes)
    assert (found.axes.gather(0, found.axes.abs().argmax(dim=0)[None]) > 0).all()


def test_colors_tell_embeddings_apart(internals):
    mask = internals["foreground"] > 0.5
    rgb = embedding.pca_to_rgb(internals["embedding"], mask)
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == np.uint8
    assert (rgb[~mask.numpy()] == drawing.BACKGROUND).all()
    assert rgb[mask.numpy()].min() >= embedding.DARKEST
    first, second = (rgb[(internals["clusters"] == k).numpy()].mean(axis=0) for k in (1, 2))
    assert np.abs(first - second).max() > 100
    np.testing.assert_array_equal(rgb, embedding.pca_to_rgb(internals["embedding"], mask))


@pytest.mark.parametrize("pixels", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_colors_of_hardly_anything(pixels, channels):
    values = torch.arange(channels * 12.0).reshape(channels, 3, 4)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask.view(-1)[:pixels] = True
    rgb = embedding.pca_to_rgb(values, mask)
    assert (rgb[~mask.numpy()] == drawing.BACKGROUND).all()
    colors = np.unique(rgb[mask.numpy()], axis=0)
    assert len(colors) == pixels and (pixels == 0 or colors.min() >= embedding.DARKEST)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_constant_embedding_is_grey(dtype):
    rgb = embedding.pca_to_rgb(torch.full((8, 5, 5), 0.1, dtype=dtype), torch.ones(5, 5) > 0)
    assert len(np.unique(rgb)) == 1


def test_noise_of_a_minor_component_is_not_stretched_to_full_contrast():
    values = torch.zeros(3, 20, 20)
    values[0, :, 10:] = 10
    values[1, ::2] = 0.1
    rgb = embedding.pca_to_rgb(values, torch.ones(20, 20) > 0).astype(int)
    assert np.ptp(rgb[..., 0]) == 255 - embedding.DARKEST
    assert 0 < np.ptp(rgb[..., 1]) < 12


def test_semantics_are_as_bright_as_they_are_sure():
    semantic = torch.tensor([[0, 1, 2]])
    foreground = torch.tensor([[1.0, 0.6, 0.0]])
    rgb = embedding.semantic_to_rgb(semantic, foreground, foreground > 0.5)
    assert tuple(rgb[0, 0]) == instance_color(1)
    assert tuple(rgb[0, 2]) == drawing.BACKGROUND
    expected = 0.6 * np.array(instance_color(2)) + 0.4 * np.array(drawing.BACKGROUND)
    np.testing.assert_allclose(rgb[0, 1], expected, atol=1)


def test_heat_map_rises_in_brightness():
    rgb = pictures.heat_map(torch.linspace(-1, 2, 31)[None], 0, 1)
    luma = rgb[0].astype(float).sum(axis=1)
    assert (np.diff(luma) >= 0).all() and (rgb[0, 0] == pictures.RAMP[0]).all()
    assert (rgb[0, -1] == pictures.RAMP[-1]).all()
    assert pictures.heat_map(torch.zeros(2, 2), 0, 0).shape == (2, 2, 3)


def test_scatter_keeps_distances_and_names_clusters():
    points = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    picture = embedding.scatter(points, np.array([1, 2, 0]), points[:2], size=(200, 300))
    places = [np.argwhere((picture == instance_color(k)).all(axis=2)).mean(axis=0) for k in (1, 2)]
    grey = np.argwhere((picture == embedding.PLAIN).all(axis=2)).mean(axis=0)
    right, up = places[1] - places[0], grey - places[0]
    assert right[0] == pytest.approx(0, abs=1) and up[1] == pytest.approx(0, abs=1)
    assert right[1] == pytest.approx(-4 * up[0], rel=0.03) and right[1] > 200


@pytest.mark.parametrize("size", [(64, 64), (3, 200), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_scatter_of_hardly_anything(count, size):
    points = np.zeros((count, 2))
    labels = np.ones(count, dtype=np.int64)
    picture = embedding.scatter(points, labels, points[:1], size=size)
    assert picture.shape == (*size, 3)
    assert (picture != drawing.BACKGROUND).any() == (count > 0)


def test_scatter_draws_some_of_many_and_always_the_same():
    points = np.random.default_rng(1).normal(size=(50_000, 2))
    labels = np.ones(50_000, dtype=np.int64)
    first, second = (
        embedding.scatter(points, labels, points[:1], size=(400, 400)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    drawn = (first == instance_color(1)).all(axis=2).sum()
    assert 1000 < drawn <= 4 * embedding.MAX_POINTS + 100


def test_panels(internals):
    plain = internals_panel("EmbeddingInstanceSeg", image(), internals, name="a.png")
    internals.update(seeds=internals["foreground"] ** 2, bandwidth=internals["foreground"] + 0.1)
    learned = internals_panel("EmbeddingInstanceSeg", image(), internals, name="a.png")
    panel = 512 + drawing.GAP
    assert plain.shape[1] == 4 * panel - drawing.GAP
    assert learned.shape[1] == 6 * panel - drawing.GAP
    for index in (2, 3):  # plane and clusters share their colours
        part = plain[:, index * panel :][:, :512]
        for k in (1, 2):
            assert (part == instance_color(k)).all(axis=2).sum() > 50
    assert (plain[:, 2 * panel :][45:-30, :512] == embedding.PLAIN).all(axis=2).any()


@pytest.mark.parametrize("channels", [1, 2, 16])
def test_panels_of_an_image_without_foreground(channels):
    empty = {
        "embedding": torch.zeros(channels, HEIGHT, WIDTH, requires_grad=True),
        "semantic": torch.ones(HEIGHT, WIDTH, dtype=torch.int64),
        "foreground": torch.zeros(HEIGHT, WIDTH),
        "foreground_mask": torch.zeros(HEIGHT, WIDTH, dtype=torch.bool),
        "clusters": torch.zeros(HEIGHT, WIDTH, dtype=torch.int64),
        "centers": torch.zeros(0, channels),
        "seeds": torch.zeros(HEIGHT, WIDTH),
        "bandwidth": torch.ones(HEIGHT, WIDTH),
    }
    picture = internals_panel("EmbeddingInstanceSeg", image(), empty)
    assert picture.dtype == np.uint8


def test_several_classes_are_named(internals):
    one = internals_panel("EmbeddingInstanceSeg", image(), internals)
    internals["semantic"] *= 2  # the background
    internals["semantic"][internals["clusters"] == 2] = 1
    two = internals_panel("EmbeddingInstanceSeg", image(), internals)
    legend = (two[-20:] == instance_color(2)).all(axis=2)
    assert legend.any() and not (one[-20:] == instance_color(2)).all(axis=2).any()


def test_foreground_is_what_the_model_says(internals, monkeypatch):
    # The background has won with .4 against .3 + .3, nowhere with the most of the probability.
    internals["foreground"] = internals["foreground"].clamp(min=0.6)
    masks, original = [], embedding.pca_to_rgb
    monkeypatch.setattr(
        embedding, "pca_to_rgb", lambda values, mask: masks.append(mask) or original(values, mask)
    )
    internals_panel("EmbeddingInstanceSeg", image(), internals)
    assert torch.equal(masks[0], internals["foreground_mask"])


def test_internals_of_a_model_are_drawn(internals):
    class Model:
        def internals(self, batched_inputs):
            return [internals for _ in batched_inputs]

    found = compute_internals("EmbeddingInstanceSeg", Model(), [{}])[0]
    assert internals_panel("EmbeddingInstanceSeg", image(), found).ndim == 3
