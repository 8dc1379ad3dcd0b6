"""The page of several models: its pictures, and the page itself in a browser without network."""

import shutil

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from PIL import Image
from scipy import ndimage

from instance_seg_analysis.comparison import cards as page_cards
from instance_seg_analysis.comparison import layers, page, run, table
from instance_seg_analysis.comparison.models import ComparedModel
from instance_seg_analysis.comparison.static import (
    decoded,
    laid_over,
    static_comparison,
)
from instance_seg_common.config import add_common_config
from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.error_kinds import classify_errors
from instance_seg_common.evaluation.image_report import ImageReport, Prediction, Truth
from instance_seg_common.masks import instances_from_masks
from instance_seg_common.visualization.colors import instance_colors
from instance_seg_common.visualization.errors_overlay import errors_overlay

NAME = "test_page_squares"
OBJECTS = (2, 4, 1, 3)


class Bright(torch.nn.Module):
    """Predicts what is bright, without the first ``lost`` objects of images with three or more."""

    def __init__(self, lost=0):
        super().__init__()
        self.lost = lost

    def forward(self, items):
        labels, count = ndimage.label(items[0]["image"][0].numpy() > 60)
        first = self.lost if count > 2 else 0
        masks = torch.stack([torch.from_numpy(labels == i + 1) for i in range(first, count)])
        size = (items[0]["height"], items[0]["width"])
        ones = torch.ones(len(masks))
        instances = instances_from_masks(
            masks, ones, 0 * ones, input_size=labels.shape, output_size=size
        )
        return [{"instances": instances}]


class Nothing(torch.nn.Module):
    """Predicts nothing."""

    def forward(self, items):
        size = (items[0]["height"], items[0]["width"])
        none = torch.zeros(0, *size)
        nothing = none[:, 0, 0]
        instances = instances_from_masks(none, nothing, nothing, input_size=size, output_size=size)
        return [{"instances": instances}]


def small_cfg():
    """What the models of these tests need of a config."""
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.DEVICE = 64, "cpu"
    return cfg


@pytest.fixture(scope="module")
def compared_squares(tmp_path_factory):
    """Two models on images of two, four, one and three squares; the second loses some."""
    root = tmp_path_factory.mktemp("page_data")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index, objects in enumerate(OBJECTS):
        labels = np.zeros((64, 96), dtype=np.uint16)
        for k in range(objects):
            labels[4:24, 4 + 22 * k : 20 + 22 * k] = k + 1
        image = np.repeat((labels[..., None] > 0) * np.uint8(150) + np.uint8(20), 3, axis=2)
        Image.fromarray(labels).save(root / "labels" / f"cell{index}.png")
        Image.fromarray(image).save(root / "images" / f"cell{index}.png")
    register_label_map_dataset(NAME, root / "images", root / "labels", thing_classes=("cell",))
    cfg = small_cfg()
    models = [ComparedModel("all <of> them", cfg, Bright()), ComparedModel("few", cfg, Bright(2))]
    comparison = run.Comparison(models, NAME)
    cards = [page_cards.image_card(comparison.add(r), models) for r in DatasetCatalog.get(NAME)]
    cards[0].internals = [
        page_cards.internals_layer(np.zeros((50, 5200, 3), np.uint8), models[1], "a.png")
    ]
    return comparison, cards


@pytest.fixture(scope="module")
def page_file(compared_squares, tmp_path_factory):
    """The page on disk."""
    comparison, cards = compared_squares
    summaries = [comparison.summary(model, memory=False) for model in comparison.models]
    html = page.render(
        "Squares", cards, summaries=summaries, bins=comparison.bins(), failures=[],
        machine="this machine",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(html)
    return path


def test_figures_of_the_models(compared_squares):
    comparison, _ = compared_squares
    whole, few = (comparison.summary(model, memory=False) for model in comparison.models)
    assert whole.metrics["AP"] == pytest.approx(100) and whole.metrics["accuracy"] == 1
    # Of 10 objects it loses two in each of two images.
    assert few.metrics["accuracy"] == pytest.approx(0.6)
    assert few.metrics["DiC"] == 1 and whole.metrics["DiC"] == 0
    rows = table.table_rows([whole, few])
    assert rows[0].cells[0] == ("100.0", True) and rows[1].cells[3] == ("0.600", False)
    assert rows[0].cells[8] == ("–", False)  # seconds of an unknown network
    assert "0.600" in table.text_table([whole, few])


def test_bins_hold_what_was_found_and_its_precision(compared_squares):
    comparison, _ = compared_squares
    for model in comparison.models:
        comparison.summary(model, memory=False)
    bins = comparison.bins()
    size = [b for b in bins["size"] if b.objects]
    assert sum(b.objects for b in size) == sum(OBJECTS)
    whole, few = (model.name for model in comparison.models)
    for entry in [b for kind in bins.values() for b in kind]:
        assert entry.AP[whole] == (pytest.approx(100) if entry.objects else None)
    # Squares two pixels apart: those in the middle of a row have two neighbours.
    crowding = {b.name: b for b in bins["crowding"] if b.objects}
    assert all(0 <= b.AP[few] < 100 for b in crowding.values() if b.found[few] < b.objects)


def test_scores_of_the_first_images_are_of_these_alone(compared_squares):
    models = compared_squares[0].models
    comparison = run.Comparison(models, NAME)
    comparison.add(DatasetCatalog.get(NAME)[0])
    assert comparison.summary(models[1], memory=False).metrics["AP"] == pytest.approx(100)


def test_an_image_that_one_model_fails_on_counts_for_none(compared_squares):
    class WrongClass(Bright):
        def forward(self, items):
            (output,) = super().forward(items)
            output["instances"].pred_classes += 1
            return [output]

    cfg = small_cfg()
    models = [ComparedModel("few", cfg, Bright(2)), ComparedModel("wrong", cfg, WrongClass())]
    comparison = run.Comparison(models, NAME)
    two_objects, four_objects = DatasetCatalog.get(NAME)[:2]
    with pytest.raises(UserError, match="class 1, but the data set has 1"):
        comparison.add(four_objects)  # of which the first model loses two
    models[1].model.forward = Bright().forward
    comparison.add(two_objects)
    assert comparison.summary(models[0], memory=False).metrics["accuracy"] == 1


def test_cards_say_what_they_show(compared_squares):
    _, cards = compared_squares
    assert [card.objects for card in cards] == list(OBJECTS)
    assert cards[1].spread == pytest.approx(0.5) and cards[0].spread == 0
    few = cards[1].models[1]
    assert few.mask.alt == "few on cell1.png: 2 objects predicted, 2 of 4 found"
    assert few.errors.alt == "Errors of few on cell1.png: 2 missed"
    assert cards[1].models[0].errors.alt.endswith("cell1.png: none")


def test_instances_have_their_colour_and_the_rest_is_transparent():
    labels = np.zeros((20, 20), int)
    labels[5:15, 5:15] = 1
    layer = layers.instance_layer(labels, instance_colors(1), 2)
    assert layer.shape == (40, 40, 4)
    assert layer[0, 0, 3] == 0 and layer[10, 10, 3] == 255
    assert layer[20, 20, 3] == round(255 * layers.TINT)
    assert layer[20, 20, :3].tolist() == instance_colors(1)[1].tolist()


def test_errors_laid_over_an_image_are_those_of_the_panels():
    labels, pred = np.zeros((30, 40), int), np.zeros((30, 40), int)
    labels[2:12, 2:12], labels[15:25, 2:12] = 1, 2
    pred[2:12, 2:12], pred[5:15, 20:35] = 1, 2
    truth = Truth(labels, np.zeros(labels.shape, bool), {1: 0, 2: 0})
    errors = classify_errors(labels, pred)
    prediction = Prediction(pred, {}, {})
    layer = layers.error_layer(ImageReport(truth, prediction, prediction, errors), 1)
    image = np.full((30, 40, 3), 100, np.uint8)
    expected = errors_overlay(image, labels, pred, errors=errors).astype(int)
    found = laid_over((image * 0.6).astype(np.uint8), layer).astype(int)
    assert np.abs(found - expected).max() <= 3
    assert layer[28, 38, 3] == 0 and layer[15, 5, 3] == 255  # nothing; outline of what is missed


def test_small_images_grow_and_large_ones_shrink():
    assert layers.stored_scale(64, 96) == 3
    assert layers.stored_scale(300, 256) == 1
    assert layers.stored_scale(960, 1920) == pytest.approx(0.25)


def test_pictures_survive_as_data_uris():
    layer = np.random.default_rng(0).integers(0, 255, (20, 30, 4), dtype=np.uint8)
    layer[..., 3] = 255
    assert (decoded(layers.webp(layer, lossless=True)) == layer).all()
    layer[:5, :, 3] = 0  # what cannot be seen has no colour to keep
    found = decoded(layers.webp(layer, lossless=True))
    assert (found[5:] == layer[5:]).all() and not found[:5, :, 3].any()


def test_cards_that_do_not_fit_are_those_on_which_the_models_differ_least(compared_squares):
    _, cards = compared_squares
    sizes = [page_cards.card_bytes(card) for card in cards]
    chosen = page_cards.choose_cards(cards, limit=sizes[1] + sizes[3])
    assert [card.name for card in chosen] == ["cell1.png", "cell3.png"]
    assert page_cards.choose_cards(cards) == cards


def test_images_without_objects_make_a_page(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        empty = np.zeros((32, 32), np.uint16 if folder == "labels" else np.uint8)
        Image.fromarray(empty).save(tmp_path / folder / "empty.png")
    register_label_map_dataset(
        "test_page_empty", tmp_path / "images", tmp_path / "labels", thing_classes=("a",)
    )
    model = ComparedModel("none", small_cfg(), Nothing())
    comparison = run.Comparison([model], "test_page_empty")
    card = page_cards.image_card(comparison.add(DatasetCatalog.get("test_page_empty")[0]), [model])
    summaries = [comparison.summary(model, memory=False)]
    assert table.figures_of(summaries[0])["AP"] is None and table.table_rows(summaries)
    html = page.render(
        "Empty", [card], summaries=summaries, bins=comparison.bins(), failures=[], machine="this",
    )  # fmt: skip
    assert "Ground truth of empty.png: 0 objects" in html
    static_comparison([card], summaries, tmp_path / "a.png", title="Empty")
    assert (tmp_path / "a.png").is_file()


def test_names_are_escaped(page_file):
    text = page_file.read_text()
    assert "all &lt;of&gt; them" in text and "<of>" not in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that reaches nothing but files."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: install Debian's chromium and chromium-driver to test the page")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("browser")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--window-size=1280,1000",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture
def opened(browser, page_file):
    """The page, freshly opened from disk; nothing may be wrong when the test ends."""
    browser.get(page_file.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def names(browser, shown_only=False):
    """Names of the images in their order on the page."""
    selector = "article:not([hidden]) h3" if shown_only else "article h3"
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(x => x.textContent)", selector
    )


def change(browser, element, value):
    """Set a control and tell the page, as the browser does after a choice."""
    browser.execute_script(
        "const x = document.getElementById(arguments[0]); x.value = arguments[1];"
        "for (const e of ['input', 'change']) x.dispatchEvent(new Event(e, {bubbles: true}))",
        element, str(value),
    )  # fmt: skip


def test_everything_is_drawn_without_a_request(opened):
    loaded = "return [...document.images].filter(x => x.src && !x.hidden && !x.closest('details'))"
    sizes = opened.execute_script(loaded + ".map(x => [x.complete, x.naturalWidth])")
    assert len(sizes) >= 5 + 4 * 5 and all(done and width for done, width in sizes)
    requests = "return performance.getEntriesByType('resource').map(x => x.name)"
    assert [r for r in opened.execute_script(requests) if not r.startswith("data:")] == []
    unnamed = "return [...document.images].filter(x => !x.alt && !x.classList.contains('overlay'))"
    assert opened.execute_script(unnamed + ".length") == 0


def test_sorting(opened):
    assert names(opened) == [f"cell{i}.png" for i in range(4)]
    change(opened, "sort", "spread")
    assert names(opened) == ["cell3.png", "cell1.png", "cell0.png", "cell2.png"]
    change(opened, "sort", "1")  # worst of the second model
    assert names(opened)[:2] == ["cell3.png", "cell1.png"]
    change(opened, "sort", "index")
    assert names(opened)[0] == "cell0.png"


def test_filtering_by_the_number_of_objects(opened):
    change(opened, "least", 2)
    change(opened, "most", 3)
    assert names(opened, shown_only=True) == ["cell0.png", "cell3.png"]
    assert opened.find_element("id", "shown").text == "2 of 4 images"
    change(opened, "most", "")
    assert len(names(opened, shown_only=True)) == 3


def stage(browser, index=2):
    """(is a mask shown over the input of an image, does its source equal a tile's, caption)."""
    return browser.execute_script(
        "const a = document.querySelectorAll('article')[arguments[0]];"
        "const o = a.querySelector('.overlay');"
        "const p = a.querySelector('[aria-pressed=true] img');"
        "const text = a.querySelector('.stage figcaption').innerText;"
        "return [!o.hidden, !!p && p.src === o.src, text]",
        index - 1,
    )


def test_overlay_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    article = opened.find_elements("css selector", "article")[1]
    opened.execute_script("arguments[0].focus()", article)
    assert stage(opened) == [False, False, "input"]
    article.send_keys("4")  # truth, then mask and errors of each model
    assert stage(opened) == [
        True,
        True,
        "input with: few on cell1.png: 2 objects predicted, 2 of 4 found",
    ]
    article.send_keys("5")
    assert stage(opened)[2] == "input with: Errors of few on cell1.png: 2 missed"
    article.send_keys("0")
    assert stage(opened) == [False, False, "input"]
    article.send_keys(Keys.TAB)  # to the first picture
    focused = opened.switch_to.active_element
    assert focused.tag_name == "button"
    focused.send_keys(Keys.SPACE)
    assert stage(opened)[2] == "input with: Ground truth of cell1.png: 4 objects"


def test_opacity_of_the_masks(opened):
    from selenium.webdriver.common.keys import Keys

    slider = opened.find_element("id", "opacity")
    slider.send_keys(Keys.HOME)
    opacity = "return getComputedStyle(document.querySelector('.tiles .stack img')).opacity"
    assert opened.execute_script(opacity) == "0"
    slider.send_keys(Keys.END)
    assert opened.execute_script(opacity) == "1"


def test_inside_the_models(opened):
    details = opened.find_element("css selector", "details.internals")
    details.find_element("css selector", "summary").click()
    image = details.find_element("css selector", "img")
    assert image.is_displayed() and image.get_attribute("alt").startswith("Inside few on a.png")
    assert image.get_property("naturalWidth") == 2600


@pytest.mark.parametrize("width", [1280, 390])
def test_no_sideways_scrolling(opened, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for details in opened.find_elements("css selector", "details"):
            opened.execute_script("arguments[0].open = true", details)
        # A phone widens the page itself to what does not fit.
        sizes = "return [document.documentElement.scrollWidth, innerWidth]"
        scroll, inner = opened.execute_script(sizes)
        assert scroll <= width and inner == width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
