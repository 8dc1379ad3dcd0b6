"""Commands that README.md and docs/ show: where they stand, and how each is run in small."""

import re
import shlex
from pathlib import Path

import numpy as np
import tifffile
from forked import run_script
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# All pages for users and contributors but CHANGELOG.md, which names what is no more.
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "datasets/README.md",
    "weights/README.md",
    *(str(f.relative_to(ROOT)) for f in sorted(ROOT.glob("docs/*.md"))),
    *(str(f.relative_to(ROOT)) for f in sorted(ROOT.glob("projects/**/README.md"))),
]
# What pages tell their reader to write.
WRITTEN_BY_THE_READER = ("configs/Nuclei/mine.yaml",)
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


# Rows that are another's with another reference, and training steps, are run small elsewhere.
ROWS = "sbd loss mean_shift mean_shift_sklearn inference matching_cost decoder inference_recurrent"


def rendered(kind):
    """Options that put four rendered images in the place of the data sets."""
    entry = f"{{'name': 'tiny_{kind}', 'format': 'synthetic', 'kind': '{kind}', 'num_images': 4}}"
    sets = " ".join(f"DATASETS.{part} \"('tiny_{kind}',)\"" for part in ("TRAIN", "TEST"))
    return f' {sets} DATASETS.REGISTER "[{entry}]"'


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
    r"(predict|export)\.py": "",
    r"visualize\.py.*--images": "",
    r"visualize\.py": f" --max-images 2 {NUCLEI}",
    r"select_threshold\.py": f" --max-images 2 {NUCLEI}",
    r"compare\.py": " --max-images 2 --internals 1",
    r"analyze\.py pooling": "",
    r"analyze\.py limits.*sticks": f" --max-images 2 --output limits{rendered('sticks')}",
    r"analyze\.py limits": (
        f" --max-images 1 --output limits --dataset few_nuclei {NUCLEI}"
        " MODEL.RPN.POST_NMS_TOPK_TEST 20"
    ),
    r"analyze\.py order": f" --max-images 2 --output order{rendered('shapes')}",
    r"analyze\.py neighbours": f" --output neighbours{rendered('sticks')}",
    r"analyze\.py oracle": f" {NUCLEI}",
    r"benchmark\.py time": f" --repeats 1 --rows {ROWS}",
    r"benchmark\.py memory": " --steps 2",
    r"benchmark\.py export": " --threads 1 --sizes 64 --repeats 1",
    r"benchmark\.py levers": (
        f" --levers rsis --seconds 0.1 SOLVER.IMS_PER_BATCH 1{rendered('shapes')}"
    ),
    r"check_env\.py": "",
}
NEEDS_NUCLEI = "dsb2018|Nuclei"


def commands(text):
    """The `python tools/...` commands of a page, in fences and in the text.

    Args:
        text (str): Markdown.

    Returns:
        list[str]: each once; lines that end with a backslash are joined.
    """
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    fenced = re.findall(r"^ *(python tools/.*)$", joined, flags=re.MULTILINE)
    inline = re.findall(r"`(python\s+tools/[^`]*)`", joined)
    return sorted({" ".join(c.split()) for c in fenced + inline})


def text_of(page):
    """The text of a file, by its path from the root."""
    return (ROOT / page).read_text()


def is_placeholder(path):
    """Whether NAME, FILE and the like in a path stand for something of the reader's."""
    return bool(re.search(r"\b[A-Z]{2,}\b|\b[A-D]\b|[{$]|\.\.\.", path.replace("README", "")))


def make_checkout(folder):
    """Make a folder look like the checkout, so that `output/` of the user stays as it is."""
    for name in ("tools", "configs", "weights"):
        (folder / name).symlink_to(ROOT / name)


def run(command, folder):
    """Run a shell-like `python ...` command in a folder."""
    return run_script(*shlex.split(command)[1:], folder=folder)


def run_in_small(command, folder, request):
    """Run a command as :data:`SMALLER` says and check that it ends well.

    Args:
        command (str)
        folder (Path): of :func:`make_checkout`; outputs go there.
        request (pytest.FixtureRequest): for the real images, where the command needs them.
    """
    if re.search(NEEDS_NUCLEI, command):
        images = request.getfixturevalue("shared_data") / "dsb2018" / "val" / "images"
        first = sorted(images.iterdir())[0]
        (folder / "my_image.png").symlink_to(first)
        (folder / "my_images").mkdir()
        (folder / "my_images" / "a.png").symlink_to(first)
        tifffile.imwrite(folder / "slide.tif", np.asarray(Image.open(first))[..., :3])
    extra = next((e for pattern, e in SMALLER.items() if re.search(pattern, command)), None)
    assert extra is not None, f"SMALLER does not say how to make this small: {command}"
    done = run(command + extra, folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
