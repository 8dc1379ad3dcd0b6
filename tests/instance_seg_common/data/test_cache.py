"""Files of the cache can be read by whom the user's umask allows, and are always complete."""

import os
import stat

import pytest

from instance_seg_common.data.cache import atomic_path
from instance_seg_common.data.synthetic import load_synthetic, resolve_parameters


@pytest.fixture(params=[0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_mode_of_any_other(tmp_path, umask):
    with atomic_path(tmp_path / "new" / "a.json") as temporary:
        assert temporary.parent == tmp_path / "new" and temporary.suffix == ".json"
        temporary.write_text("{}")
    assert mode(tmp_path / "new" / "a.json") == 0o666 & ~umask


def test_a_rendered_set_has_the_mode_of_any_other(tmp_path, umask, monkeypatch):
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(tmp_path))
    load_synthetic(resolve_parameters("shapes", num_images=1, image_size=32, objects=(1, 1)))
    (folder,) = (tmp_path / "synthetic").iterdir()
    assert mode(folder) == 0o777 & ~umask
    assert mode(folder / "annotations.json") == 0o666 & ~umask


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(KeyError), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
