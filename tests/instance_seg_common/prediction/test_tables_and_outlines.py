"""Tables against regionprops of the whole label map; outlines drawn back into pixels."""

import csv
import json

import numpy as np
import pytest

from instance_seg_common.prediction.geojson import outline, write_geojson
from instance_seg_common.prediction.objects import without_overlaps
from instance_seg_common.prediction.tables import object_table, write_csv
from instance_seg_common.tiling.stitching import Piece, StitchedObject
from instance_seg_common.tiling.tiles import Box


def objects_of(labels):
    """One object of a single piece for each id."""
    whole = Box(0, 0, *labels.shape)
    return [
        StitchedObject((Piece(whole, labels == value).tightened(),), 0.5, int(value) % 2)
        for value in range(1, labels.max() + 1)
    ]


@pytest.fixture
def labels():
    rng = np.random.default_rng(2)
    labels, (yy, xx) = np.zeros((90, 120), int), np.indices((90, 120))
    for value in range(1, 15):
        y, x, a, b = rng.integers(90), rng.integers(120), *rng.integers(2, 14, 2)
        labels[((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 <= 1] = value
    ids, consecutive = np.unique(labels, return_inverse=True)
    assert ids[0] == 0
    return consecutive.reshape(labels.shape)


def test_table_is_that_of_the_whole_label_map(labels):
    from skimage.measure import regionprops_table

    pixels = np.random.default_rng(0).random((*labels.shape, 5)) * 1000
    properties = ("area", "centroid", "bbox", "perimeter", "eccentricity", "intensity_mean")
    expected = regionprops_table(labels, pixels, properties=properties)
    cut = without_overlaps(objects_of(labels), labels.shape)  # pieces of bands
    table = object_table(cut, pixels, class_names=("round", "=long"))
    names = {
        "area": "area",
        "centroid_x": "centroid-1",
        "centroid_y": "centroid-0",
        "top": "bbox-0",
        "left": "bbox-1",
        "bottom": "bbox-2",
        "right": "bbox-3",
        "perimeter": "perimeter",
        "eccentricity": "eccentricity",
        **{f"mean_intensity_{channel}": f"intensity_mean-{channel}" for channel in range(5)},
    }
    for own, other in names.items():
        np.testing.assert_allclose(table[own], expected[other], err_msg=own)
    assert table["id"].tolist() == list(range(1, len(cut) + 1))
    assert set(table["class"]) == {"round", "=long"}
    assert set(table) == {"id", "class", "score", *names}


def test_micrometres_stand_in_the_names_of_the_columns(labels):
    objects = objects_of(labels)
    pixels = np.ones((*labels.shape, 1))
    plain = object_table(objects, pixels)
    scaled = object_table(objects, pixels, pixel_size=0.5)
    np.testing.assert_allclose(scaled["area_um2"], plain["area"] / 4)
    np.testing.assert_allclose(scaled["perimeter_um"], plain["perimeter"] / 2)
    np.testing.assert_allclose(scaled["centroid_x_um"], plain["centroid_x"] / 2)
    np.testing.assert_allclose(scaled["eccentricity"], plain["eccentricity"])
    assert not {"area", "area_um", "left"} & set(scaled)


def test_csv_has_the_table_and_no_formula(labels, tmp_path):
    pixels = np.ones((*labels.shape, 1))
    table = object_table(objects_of(labels), pixels, class_names=("=1+1", "b"))
    write_csv(tmp_path / "table.csv", table)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["area"]) for row in rows] == table["area"].tolist()
    assert {row["class"] for row in rows} == {"'=1+1", "b"}


def test_a_table_of_nothing_has_its_columns():
    table = object_table([], np.zeros((1, 1, 1)))
    assert {"id", "area", "score"} <= set(table)
    assert all(len(column) == 0 for column in table.values())


def drawn(geometry, shape):
    """The pixels of a polygon, those whose centres lie in it."""
    from rasterio.features import rasterize

    return rasterize([(geometry, 1)], out_shape=shape, dtype="uint8").astype(bool)


@pytest.mark.parametrize("seed", range(6))
def test_outlines_are_those_of_the_pixels_with_holes_and_parts(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((20, 30)) < 0.6
    mask[5:15, 5:15] = True
    mask[8:12, 8:12] = False
    geometry = outline(Piece(Box(3, 4, 23, 34), mask).tightened())
    expected = np.zeros((40, 40), bool)
    expected[3:23, 4:34] = mask
    np.testing.assert_array_equal(drawn(geometry, (40, 40)), expected)
    assert geometry["type"] == "MultiPolygon"


def test_geojson_has_a_feature_for_each_object(labels, tmp_path):
    objects = objects_of(labels)
    write_geojson(tmp_path / "a.geojson", objects, ("cell", "other"))
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == len(objects)
    for number, feature in enumerate(content["features"], start=1):
        np.testing.assert_array_equal(drawn(feature["geometry"], labels.shape), labels == number)
        assert feature["properties"]["classification"]["name"] in ("cell", "other")
    write_geojson(tmp_path / "none.geojson", [], ())
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []
