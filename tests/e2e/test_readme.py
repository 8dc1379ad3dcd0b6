"""Every command and script that the README shows, run in small as a user runs it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FEW = (
    "[{'name': 'few_nuclei', 'format': 'label_map', 'image_dir': 'dsb2018/val/images', "
    "'label_dir': 'dsb2018/val/labels', 'classes': ['nucleus'], 'max_instances': 8}]"
)
NUCLEI = (
    f'DATASETS.REGISTER "{FEW}" DATASETS.TEST "(\'few_nuclei\',)" '
    "DATASETS.TRAIN \"('few_nuclei',)\""
)
TRAIN = (
    "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 1 TEST.EVAL_PERIOD 0 TEST.PICTURES 0 "
    "DATALOADER.NUM_WORKERS 0 SOLVER.WARMUP_ITERS 0 TEST.DETECTIONS_PER_IMAGE 20"
)


def rendered(kind):
    """Options that put four rendered images in the place of a data set."""
    entry = f"{{'name': 'tiny_{kind}', 'format': 'synthetic', 'kind': '{kind}', 'num_images': 4}}"
    return f' DATASETS.TEST "(\'tiny_{kind}\',)" DATASETS.REGISTER "[{entry}]"'


# What makes a command small: the first pattern that its text has.
SMALLER = {
    r"check_dataset\.py dsb2018_val$": "_upto20",
    r"check_dataset\.py cells_train": "",
    r"Synthetic.*annotation": " --max-images 2",
    r"sticks.*--eval-only": rendered("sticks"),
    r"--eval-only": f" {NUCLEI}",
    r"train_net\.py.*Nuclei": f" {TRAIN} {NUCLEI}",
    r"train_net\.py.*sticks": f" {TRAIN}{rendered('sticks')}",
    r"train_net\.py.*Synthetic": f" {TRAIN}{rendered('shapes')}",
    r"visualize\.py.*--images": "",
    r"visualize\.py": f" --max-images 2 {NUCLEI}",
    r"select_threshold\.py": f" --max-images 2 {NUCLEI}",
    r"compare\.py": " --max-images 2 --internals 1",
    r"compare_pooling\.py": "",
    r"measure_levers\.py": " --levers plain --seconds 1" + rendered("shapes"),
    r"analyze_limits.*sticks": " --max-images 2 --output limits --opts" + rendered("sticks"),
    r"analyze_limits\.py": (
        f" --max-images 1 --output limits --dataset few_nuclei --opts {NUCLEI}"
        " MODEL.RPN.POST_NMS_TOPK_TEST 20"
    ),
    r"analyze_order\.py": " --max-images 2 --output order" + rendered("shapes"),
    r"analyze_neighbours\.py": " --output neighbours --opts" + rendered("sticks"),
    r"ablate_oracle\.py": f" {NUCLEI}",
    r"benchmark\.py": " --repeats 1",
    r"check_env\.py": "",
}
NEEDS_NUCLEI = "dsb2018|Nuclei"


def commands():
    """The `python tools/...` commands of the README, in fences and in the text."""
    fenced = re.findall(r"^(python tools/.*)$", README, flags=re.MULTILINE)
    inline = re.findall(r"`(python tools/[^`]*)`", README)
    return sorted(set(fenced) | set(inline))


def run(command, folder):
    """Run a shell-like command from the checkout, outputs and cache in a folder of the test."""
    arguments = [sys.executable, *shlex.split(command)[1:]]
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the checkout, so that `output/` of the user stays as it is."""
    for name in ("tools", "configs", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("command", [c for c in commands() if "mine.yaml" not in c])
def test_command(command, checkout, request):
    if re.search(NEEDS_NUCLEI, command):
        images = request.getfixturevalue("shared_data") / "dsb2018" / "val" / "images"
        (checkout / "my_image.png").symlink_to(sorted(images.iterdir())[0])
    extra = next((e for pattern, e in SMALLER.items() if re.search(pattern, command)), None)
    assert extra is not None, f"SMALLER does not say how to make this small: {command}"
    done = run(command + extra, checkout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_own_data_as_the_readme_shows(tmp_path):
    """The YAML of the README on label maps and COCO JSON made here: checked, then trained."""
    from own_data import write_cells

    write_cells(tmp_path)
    for name in ("tools", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "configs").mkdir()
    for part in ("Base-InstanceSeg.yaml", "methods", "data"):
        (tmp_path / "configs" / part).symlink_to(ROOT / "configs" / part)
    (tmp_path / "configs" / "Nuclei").mkdir()
    mine = "configs/Nuclei/mine.yaml"
    text = next(t for t in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL) if "mine" in t)
    (tmp_path / mine).write_text(text)
    check = next(c for c in commands() if "mine.yaml" in c)
    train = f"python tools/train_net.py --config-file {mine} {TRAIN}"
    for command in (check, train):
        done = run(command, tmp_path)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "output" / "mine" / "results.json").is_file()


def test_script_of_the_readme(tmp_path):
    from own_data import write_cells

    write_cells(tmp_path)
    (tmp_path / "cells" / "images").symlink_to(tmp_path / "cells" / "train" / "images")
    (tmp_path / "cells" / "labels").symlink_to(tmp_path / "cells" / "train" / "labels")
    script = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL).group(1)
    assert len(script.splitlines()) <= 25
    (tmp_path / "script.py").write_text(script)
    done = run("python script.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ap, sbd = map(float, done.stdout.split()[-2:])
    assert ap > 50
    assert 0.5 < sbd <= 1
