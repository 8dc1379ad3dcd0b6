"""Each plugin in a Detectron2 set-up that knows nothing of this project but two lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from own_data import write_cells

ROOT = Path(__file__).resolve().parents[2]
MY_CONFIG = {
    "MODEL": {"MASK_ON": True, "DEVICE": "cpu", "BACKBONE": {"FREEZE_AT": 0}},
    "INPUT": {"MASK_FORMAT": "bitmask", "MIN_SIZE_TRAIN": [96], "MIN_SIZE_TEST": 96},
    "DATASETS": {"TRAIN": ["cells"], "TEST": ["cells"]},
    "DATALOADER": {"NUM_WORKERS": 0},
    "SOLVER": {"IMS_PER_BATCH": 3, "MAX_ITER": 60, "WARMUP_ITERS": 5},
    "TEST": {"EVAL_PERIOD": 60},
    "OUTPUT_DIR": "run",
}
# Folder of the plugin, its node, learning rate of stock SGD.
PLUGINS = {
    "EmbeddingInstanceSeg": (
        {"EMBEDDING_INSTANCE_SEG": {"NUM_CLASSES": 1, "SEMI_CONVOLUTIONAL": True}},
        0.05,
    ),
    # Of so few images every object is asked for at once, with hints to the end.
    "RecurrentInstanceSeg": (
        {
            "RECURRENT_INSTANCE_SEG": {
                "NUM_CLASSES": 1,
                "MAX_STEPS": 6,
                "CURRICULUM_START": 0,
                "GUIDED": {"TEACHER_UNTIL": 60},
            }
        },
        0.03,
    ),
}


def my_config(node, rate):
    """What a user writes beside the plugin's own YAML."""
    model, solver = {**MY_CONFIG["MODEL"], **node}, {**MY_CONFIG["SOLVER"], "BASE_LR": rate}
    return {**MY_CONFIG, "MODEL": model, "SOLVER": solver}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_script_with_stock_trainer_mapper_and_evaluator(plugin, tmp_path):
    write_cells(tmp_path)
    (tmp_path / "cells/val").rename(tmp_path / "cells/images")
    (tmp_path / "cells/val.json").rename(tmp_path / "cells/annotations.json")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_config.yaml").write_text(yaml.safe_dump(my_config(*PLUGINS[plugin])))
    readme = (ROOT / "projects" / plugin / "README.md").read_text()
    script = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL).group(1)
    assert len(script.splitlines()) <= 25
    assert "instance_seg_common" not in script
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text().splitlines()[-1])
    assert metrics["segm/AP"] > 40
