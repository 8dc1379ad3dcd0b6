"""Every command and script that the README shows, run in small as a user runs it."""

import re

import pytest
from own_data import write_cells
from shown import ROOT, TRAIN, commands, make_checkout, run, run_in_small

README = (ROOT / "README.md").read_text()
MINE = "configs/Nuclei/mine.yaml"


def fences(language):
    """The fenced blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("command", [c for c in commands(README) if MINE not in c])
def test_command(command, tmp_path, request):
    make_checkout(tmp_path)
    run_in_small(command, tmp_path, request)


def test_own_data_as_the_readme_shows(tmp_path):
    """The YAML of the README on label maps and COCO JSON made here: checked, then trained."""
    write_cells(tmp_path)
    for name in ("tools", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / MINE).parent.mkdir(parents=True)
    for part in ("Base-InstanceSeg.yaml", "backbones", "methods", "data"):
        (tmp_path / "configs" / part).symlink_to(ROOT / "configs" / part)
    (tmp_path / MINE).write_text(next(text for text in fences("yaml") if "mine" in text))
    check = next(c for c in commands(README) if MINE in c)
    train = f"python tools/train_net.py --config-file {MINE} {TRAIN}"
    for command in (check, train):
        done = run(command, tmp_path)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "output" / "mine" / "results.json").is_file()


def test_script_of_the_readme(tmp_path):
    write_cells(tmp_path)
    (tmp_path / "cells" / "images").symlink_to(tmp_path / "cells" / "train" / "images")
    (tmp_path / "cells" / "labels").symlink_to(tmp_path / "cells" / "train" / "labels")
    script = next(text for text in fences("python") if "get_cfg" in text)
    assert len(script.splitlines()) <= 25
    (tmp_path / "script.py").write_text(script)
    done = run("python script.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ap, sbd = map(float, done.stdout.split()[-2:])
    assert ap > 50
    assert 0.5 < sbd <= 1


def test_two_lines_make_a_method_known_to_a_stock_config():
    from detectron2.config import get_cfg
    from detectron2.modeling import META_ARCH_REGISTRY

    lines = [text for text in fences("python") if "get_cfg" not in text]
    assert len(lines) == 2
    for text in lines:
        assert len([line for line in text.splitlines() if line]) == 2
        cfg = get_cfg()
        exec(text, {"cfg": cfg})
        name = re.search(r'META_ARCHITECTURE = "(\w+)"', text).group(1)
        assert name in META_ARCH_REGISTRY
        assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() in cfg.MODEL
