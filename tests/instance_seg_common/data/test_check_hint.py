"""The command that an error names works as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from forked import run_script
from label_trees import SECOND, image, label_map, write

from instance_seg_common.data import (
    register_builtin_datasets,
    register_coco_dataset,
    register_label_map_dataset,
)
from instance_seg_common.data.registration import check_hint, source_of
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError


@pytest.fixture
def broken(tmp_path, monkeypatch, repository_root):
    """A folder, the working directory, with a set whose second label is none."""
    monkeypatch.chdir(tmp_path)
    for stem in "ab":
        write(tmp_path / f"my set/images/{stem}.png", image())
        write(tmp_path / f"my set/labels/{stem}.png", label_map(SECOND))
    write(tmp_path / "my set/labels/b.png", np.arange(1800, dtype=np.uint8).reshape(20, 30, 3))
    (tmp_path / "tools").symlink_to(repository_root / "tools")
    return tmp_path


def entry(name):
    return {"name": name, "format": "label_map", "image_dir": "my set/images",
            "label_dir": "my set/labels"}  # fmt: skip


def forget(name):
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


def command_in(sentence):
    return re.search(r"`(python tools/check_dataset\.py .*?)` lists everything", sentence).group(1)


def run(command):
    words = shlex.split(command)
    assert words[0] == "python"
    done = run_script(*words[1:], folder=Path.cwd())
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_set_of_a_yaml_file(broken, fresh_name):
    file = broken / "my config.yaml"
    file.write_text(yaml.safe_dump({"VERSION": 2, "DATASETS": {"REGISTER": [entry(fresh_name)]}}))
    load_cfg("my config.yaml")
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(fresh_name)
    command = command_in(str(caught.value))
    assert command == f"python tools/check_dataset.py {fresh_name} --config-file 'my config.yaml'"
    done = run(command)
    assert done.returncode == 1
    assert "error, label unusable" in done.stdout and "2 images" not in done.stdout


def test_a_set_of_a_command_line_needs_a_file_first(broken, fresh_name):
    load_cfg("", ["DATASETS.REGISTER", str([entry(fresh_name)])])
    hint = check_hint(source_of(fresh_name))
    assert f"{fresh_name} --config-file A_FILE_WITH_THIS_ENTRY.yaml`" in hint


def test_files_that_the_command_line_names(broken):
    command = "python tools/check_dataset.py --images 'my set/images' --labels 'my set/labels'"
    done = run(command)
    assert done.returncode == 1
    assert "error, label unusable" in done.stdout


def test_built_in_sets(shared_data, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    register_builtin_datasets()
    for name in ("dsb2018_val", "coco_mini_val", "cvppp_A1", "cityscapes_instance_val",
                 "voc_2012_instance_val"):  # fmt: skip
        expected = f"`python tools/check_dataset.py {name}` lists everything."
        assert check_hint(source_of(name)) == expected


def test_sets_registered_in_python(broken, fresh_name, capsys):
    register_label_map_dataset(fresh_name, "my set/images", "my set/labels")
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(fresh_name)
    call, line = re.findall(r"`(print.*?|from .*?)`", str(caught.value))
    exec(f"{line}\n{call}", {})
    assert "error, label unusable" in capsys.readouterr().out
    forget(fresh_name)
    register_coco_dataset(fresh_name, "none.json", "my set/images")
    assert f"check_dataset({fresh_name!r})" in check_hint(source_of(fresh_name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("dsb2018_val --names cell", "--names would change nothing"),
        ("dsb2018_val --classes c --instances files", "--classes, --instances would change"),
        ("--images i --json f.json --label-suffix _x", "--label-suffix would change nothing"),
        ("dsb2018_val --images i", "Give one of"),
        ("", "Give one of"),
    ],
)
def test_arguments_that_would_change_nothing(arguments, words, monkeypatch):
    import check_dataset as tool

    monkeypatch.setattr("sys.argv", ["tool", *shlex.split(arguments)])
    with pytest.raises(UserError, match=words):
        tool.main()


def test_the_tool_reads_every_kind(broken, monkeypatch, capsys):
    import check_dataset as tool

    write(broken / "my set/labels/b.png", label_map(SECOND))
    for stem in "ab":
        labels = broken / f"my set/labels/{stem}.png"
        labels.rename(broken / f"my set/{stem}_mask.png")
    command = "--images 'my set/images' --labels 'my set' --label-suffix _mask --instances files"
    monkeypatch.setattr("sys.argv", ["tool", *shlex.split(command)])
    monkeypatch.setattr(tool, "UNNAMED", f"test_{broken.name}")
    assert tool.main() == 1
    assert "the values 1, 2 besides 0" in capsys.readouterr().out
    forget(tool.UNNAMED)
    command = command.replace("files", "ids")
    monkeypatch.setattr("sys.argv", ["tool", *shlex.split(command)])
    assert tool.main() == 0
    assert (broken / "output/check" / tool.UNNAMED / "b.png").exists()
    forget(tool.UNNAMED)
