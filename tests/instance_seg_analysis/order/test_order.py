"""Order patterns against closed forms and enumerations of all orders."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from instance_seg_analysis.order import objects as measured
from instance_seg_analysis.order import pairs as order_pairs
from instance_seg_analysis.order import places, plots, sentences, tables, tau
from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.tau import BlockTaus


def objects(centers, classes=None, areas=None):
    n = len(centers)
    areas = np.linspace(0.1, 0.2, n) if areas is None else np.asarray(areas, dtype=float)
    classes = np.zeros(n) if classes is None else classes
    centers = np.asarray(centers, dtype=float).reshape(-1, 2)
    return FoundObjects(centers, areas, np.asarray(classes, dtype=np.int64))


def random_objects(rng, counts, classes=3):
    return [
        objects(rng.random((n, 2)), rng.integers(classes, size=n), rng.random(n)) for n in counts
    ]


def slow_tau(key):
    """Concordant minus discordant pairs, over the geometric mean of the untied ones (tau-b)."""
    pairs = list(itertools.combinations(key, 2))
    signs = [np.sign(b - a) for a, b in pairs]
    return sum(signs) / np.sqrt(len(pairs) * sum(s != 0 for s in signs))


def test_places_and_sizes_of_masks():
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[0, 0:2, 0:4] = True
    masks[1, 9, 19] = True
    found = measured.describe_masks(masks, torch.tensor([2, 0]))
    np.testing.assert_allclose(found.centers, [[0.1, 0.1], [0.975, 0.95]])
    np.testing.assert_allclose(found.areas, [8 / 200, 1 / 200])
    assert found.classes.tolist() == [2, 0]
    nothing = measured.describe_masks(masks[:0], torch.zeros(0, dtype=torch.int64))
    assert nothing.centers.shape == (0, 2) and nothing.areas.shape == (0,)


def test_activation_is_the_mean_over_mask_and_channels():
    # Cells of 4 x 4 pixels; the image is 6 x 8 within a padded input of 8 x 8.
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[3.0, 4.0], [5.0, 16.0]]])
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, :4, :4] = True  # one cell
    masks[1, :, 4:] = True  # all of one cell and half of that below it
    masks[2, 5, 7] = True  # a pixel
    shares = measured.covered_shares(masks, (8, 8), (2, 2))
    np.testing.assert_allclose(shares[1], [[0, 1], [0, 0.5]])
    found = measured.mask_activations(features, shares)
    np.testing.assert_allclose(found, [2, (16 * 3 + 8 * 10) / 24, 10])


@pytest.mark.parametrize(("name", "centers", "areas"), [
    ("r2l", [(0.9, 0.1), (0.5, 0.8), (0.2, 0.3)], [1, 3, 2]),
    ("b2t", [(0.5, 0.9), (0.9, 0.5), (0.1, 0.1)], [1, 3, 2]),
    ("l2s", [(0.5, 0.1), (0.9, 0.5), (0.1, 0.3)], [3, 2, 1]),
])  # fmt: skip
def test_tau_is_1_in_an_order_and_minus_1_in_its_opposite(name, centers, areas):
    keys = tau.order_keys(objects(centers, areas=areas))
    assert tau.order_tau(keys[name]) == 1
    assert tau.order_tau(keys[name][::-1]) == -1
    assert all(abs(tau.order_tau(keys[other])) < 1 for other in set(keys) - {name})


@pytest.mark.parametrize("key", [[3, 1, 2], [1, 1, 2, 0], [5, 5, 1, 1, 3], [2, 2, 2, 1, 1, 0]])
def test_tau_b_and_its_variance_over_all_orders(key):
    key = np.array(key, dtype=float)
    assert tau.order_tau(key) == pytest.approx(slow_tau(key))
    taus = [slow_tau(np.array(p)) for p in itertools.permutations(key)]
    assert tau.random_order_variance(key) == pytest.approx(np.mean(np.square(taus)))


@pytest.mark.parametrize("key", [[], [1.0], [2.0, 2.0]])
def test_no_tau_without_two_objects_that_differ(key):
    assert np.isnan(tau.order_tau(np.array(key)))
    assert np.isnan(tau.random_order_variance(np.array(key)))


def test_summary_counts_images_that_have_a_tau():
    keys = [np.arange(3.0), np.zeros(2), np.zeros(0), np.array([0.0, 2.0, 1.0])]
    summary = tau.summarize_taus(keys)
    assert summary.images == 2 and summary.mean == pytest.approx((1 + 1 / 3) / 2)
    assert summary.low == pytest.approx(1 / 3) and summary.high == 1
    variance = 2 * (2 * 3 + 5) / (9 * 3 * 2)
    assert summary.null == pytest.approx(2.5758 * np.sqrt(2 * variance) / 2, rel=1e-4)
    assert summary.spread == pytest.approx((1 + 1 / 9) / 2 / variance)
    nothing = tau.summarize_taus(keys[1:3])
    assert nothing.images == 0 and np.isnan(nothing.mean) and not nothing.is_pattern


def test_random_orders_are_no_pattern_and_have_no_spread():
    rng = np.random.default_rng(3)
    beyond, spreads, high = 0, [], 0
    for trial in range(300):
        summary = tau.summarize_taus([rng.random(n) for n in (2, 3, 5, 8, 12)], seed=trial)
        beyond += summary.is_pattern
        high += tau.has_spread(summary)
        spreads.append(summary.spread)
    assert beyond <= 10 and high <= 10  # 1 % of 300 is 3
    assert np.mean(spreads) == pytest.approx(1, abs=0.1)


def test_images_with_opposite_orders_have_spread_but_no_pattern():
    ascending = np.arange(8.0)
    summary = tau.summarize_taus([ascending, -ascending] * 5)
    assert summary.mean == 0 and not summary.is_pattern and tau.has_spread(summary)
    # Random orders never have such a mean, but other images of the kind could have the opposite.
    signs = np.array([1, 1, 1, 1, 1, 1, 1, -1, -1, -1.0])
    uneven = tau.summarize_taus([sign * ascending for sign in signs])
    assert uneven.mean == pytest.approx(0.4) and uneven.mean > uneven.null
    assert uneven.low < 0 < uneven.high and not uneven.is_pattern
    sentence = sentences.order_sentence("r2l", summary)
    assert "neither right to left nor left to right" in sentence and "of their own" in sentence


def slow_pairs(found, extent):
    """{(class, class): [left, right, up, down, all]} of consecutive objects."""
    counts = {}
    for i in range(len(found.classes) - 1):
        x, y = found.centers[i + 1] - found.centers[i]
        row = counts.setdefault((found.classes[i], found.classes[i + 1]), np.zeros(5))
        row += [x < -extent, x > extent, y < -extent, y > extent, 1]
    return counts


def test_pairs_by_class_against_a_loop():
    images = random_objects(np.random.default_rng(0), [12, 0, 1, 9, 2, 15])
    total = {}
    for found in images:
        for pair, row in slow_pairs(found, 0.2).items():
            total[pair] = total.get(pair, 0) + row
    every, *rows = order_pairs.pair_shares(images, 3, extent=0.2, min_pairs=3)
    assert every.pairs == every.expected == 11 + 8 + 1 + 14
    assert {(r.first, r.second) for r in rows} == {p for p, row in total.items() if row[4] >= 3}
    assert [r.pairs for r in rows] == sorted((r.pairs for r in rows), reverse=True)
    for row in rows:
        counts = total[row.first, row.second]
        assert row.pairs == counts[4]
        np.testing.assert_allclose([*row.shares.values()], counts[:4] / counts[4])
    assert sum(counts[1] for counts in total.values()) / every.pairs == every.shares["right"]


def test_expected_pairs_are_those_of_all_orders():
    found = objects(np.random.default_rng(1).random((5, 2)), classes=[0, 1, 1, 0, 1])
    total = {}
    for chosen in map(list, itertools.permutations(range(5))):
        shuffled = FoundObjects(*(part[chosen] for part in found))
        for pair, row in slow_pairs(shuffled, order_pairs.PAIR_EXTENT).items():
            total[pair] = total.get(pair, 0) + row / 120
    _, *rows = order_pairs.pair_shares([found], 2, min_pairs=1)
    assert rows
    for row in rows:
        counts = total[row.first, row.second]
        assert row.expected == pytest.approx(counts[4])
        np.testing.assert_allclose([*row.expected_shares.values()], counts[:4] / counts[4])


def test_pairs_need_more_than_the_extent_and_one_class_has_no_rows_of_its_own():
    images = [objects([(0.1, 0.5), (0.24, 0.5), (0.4, 0.3)])]
    (row,) = order_pairs.pair_shares(images, 4, min_pairs=1)
    assert row.first is None and row.pairs == 2
    assert row.shares == {"left": 0, "right": 0.5, "up": 0.5, "down": 0}
    (row,) = order_pairs.pair_shares([objects([])], 4)
    assert row.pairs == 0 and np.isnan(row.shares["left"])


def test_discoveries_and_where_they_lie_in_all_orders():
    images = random_objects(np.random.default_rng(2), [3, 1, 2, 0])
    counts = [len(places.discovery_centers(images, r)) for r in (None, 0, 1, 2, 3)]
    assert counts == [6, 3, 2, 1, 0]
    found = places.discovery_places(images)
    assert [p.objects for p in found] == [3, 2, 1]
    means = [
        np.mean([images[0].centers[i], images[2].centers[j]], axis=0)
        for i, j in itertools.product(range(3), range(2))
    ]
    np.testing.assert_allclose(found[1].expected, np.mean(means, axis=0))
    np.testing.assert_allclose(found[1].null, 2.5758 * np.std(means, axis=0), rtol=1e-4)
    second = (images[0].centers[1] + images[2].centers[1]) / 2
    np.testing.assert_allclose(found[1].mean, second)
    assert places.discovery_places([objects([])]) == []


def test_density_is_highest_at_the_points_and_one_on_average():
    density = places.density_map(np.array([[0.2, 0.7], [1.0, 0.0]]), size=50, sigma=0.07)
    assert density.mean() == pytest.approx(1)
    inner = density[20:, :30]  # away from the corner
    assert np.unravel_index(inner.argmax(), inner.shape) in {(14, 9), (15, 10), (14, 10), (15, 9)}
    assert density[0, -1] > density[0, 0] and (places.density_map(np.zeros((0, 2))) == 0).all()


def swept(rng, count=30):
    """Images whose objects are found from left to right."""
    return [
        objects(np.stack([np.sort(rng.random(6)), rng.random(6)], 1), rng.integers(2, size=6),
                rng.random(6))
        for _ in range(count)
    ]  # fmt: skip


def summaries(images, rng):
    keys = [tau.order_keys(found) for found in images]
    orders = {name: tau.summarize_taus([k[name] for k in keys]) for name in tau.ORDERS}
    noise = [tau.summarize_taus([rng.random(6) for _ in images]) for _ in range(3)]
    learned = tau.summarize_taus([-found.centers[:, 0] for found in images])
    return orders, {
        "f0 res5": BlockTaus(learned, noise[:2]),
        "f1 res4": BlockTaus(noise[2], []),
    }


def test_sentences_say_what_holds():
    rng = np.random.default_rng(5)
    images = swept(rng)
    orders, activations = summaries(images, rng)
    pairs = order_pairs.pair_shares(images, 2)
    text = "\n".join(
        sentences.sentences(orders, activations, pairs, images=images, class_names=("cell",))
    )
    assert "found strongly left to right: tau -1.000 over 30 images" in text
    assert "neither bottom to top nor top to bottom" in text
    assert "0 % left" in text and "Of 16 shares of directions, of 4 pairs of classes, 4 lie" in text
    assert "most with the activations of f0 res5: tau -1.000" in text
    assert "the least active first" in text and "so it came with training" in text
    assert "30 objects found first lie further left than random orders" in text
    dead = {"f0 res5": BlockTaus(tau.summarize_taus([]), [])}
    assert sentences.activation_sentences(dead) == []
    assert (
        "f0 res4" in sentences.activation_sentences({**dead, "f0 res4": activations["f0 res5"]})[0]
    )
    nothing = sentences.sentences(
        {"r2l": tau.summarize_taus([])},
        {},
        order_pairs.pair_shares([objects([])], 1),
        images=[objects([])],
    )
    assert nothing == [
        "r2l: no image has two objects that this order tells apart.", "No object is found."
    ]  # fmt: skip


def test_tables_and_plots(tmp_path):
    rng = np.random.default_rng(6)
    images = swept(rng)
    orders, activations = summaries(images, rng)
    pairs = order_pairs.pair_shares(images, 2)
    assert "| r2l, right to left  | -1.000 |" in tables.order_table(orders)
    table = tables.pair_table(pairs, ("cell",))
    assert "all pairs" in table and "cell -> class 1" in table and "0 (" in table and ")*" in table
    assert table.splitlines()[2].split("|")[2].strip() == "150"
    assert "| f1 res4 | -        | -" in tables.activation_table(activations)
    plots.tau_figure(orders, activations, tmp_path / "tau.png", title="a")
    plots.pair_figure(pairs, ("cell",), tmp_path / "pairs.png", title="a")
    plots.discovery_figure(images, tmp_path / "discoveries.png", title="a")
    for name in ("tau", "pairs", "discoveries"):
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        assert picture.std() > 10 and picture.shape[1] > 900
