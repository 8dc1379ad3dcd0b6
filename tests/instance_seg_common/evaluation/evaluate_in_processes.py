"""Evaluates a small set with two gloo processes and with one; writes both results as JSON.

Run as a script in a process of its own: it forks, which is quick, but no thing to do in a test run.
Arguments: the folder for the results, and "cityscapes" or "voc" for such a set instead of squares.
"""

import json
import sys
from pathlib import Path

import cityscapes_tree as tree
import numpy as np
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.config import add_common_config
from instance_seg_common.data import register_cityscapes_dataset
from instance_seg_common.evaluation import build_evaluator

NAME = "evaluated_in_processes"


def squares(folder):
    """Register squares; returns their records and predictions."""
    records = [make_record(number, grid_masks(number)) for number in range(1, 6)]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(thing_classes=["object"])
    return records, [make_instances(grid_masks(number + 1)) for number in range(1, 6)]


def cityscapes(folder):
    """Register three images of Cityscapes; returns their records and predictions."""
    tree.write_tree(folder / "cityscapes")
    register_cityscapes_dataset(NAME, folder / "cityscapes", "val")
    files = tree.label_files(folder / "cityscapes")
    records = DatasetCatalog.get(NAME)
    return records, [tree.shifted(tree.read_label(files[r["image_id"]])) for r in records]


def voc(folder):
    """Register squares to be scored as Pascal VOC; returns their records and predictions."""
    records, _ = squares(folder)
    MetadataCatalog.get(NAME).set(evaluator_type="voc")
    # No two scores are equal: those of equal ones would depend on the order of the images.
    masks = [grid_masks(number + 1, shift=number % 3) for number in range(1, 6)]
    scores = [np.linspace(0.1 + 0.05 * i, 0.9 - 0.03 * i, len(m)) for i, m in enumerate(masks)]
    return records, [make_instances(m, s) for m, s in zip(masks, scores)]


def evaluate(records, predictions):
    """Results of this process, which sees every world-size-th image."""
    cfg = get_cfg()
    add_common_config(cfg)
    share = slice(comm.get_rank(), None, comm.get_world_size())
    return run(build_evaluator(cfg, NAME), records[share], predictions[share])


def worker(rank, folder, records, predictions):
    """One of two processes."""
    init = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=init, world_size=2, rank=rank)
    comm.create_local_process_group(2)
    (folder / f"rank{rank}.json").write_text(json.dumps(evaluate(records, predictions)))
    dist.destroy_process_group()


if __name__ == "__main__":
    output = Path(sys.argv[1])
    kinds = {"cityscapes": cityscapes, "voc": voc}
    content = kinds.get(sys.argv[-1], squares)(output)
    mp.start_processes(worker, args=(output, *content), nprocs=2, start_method="fork")
    (output / "alone.json").write_text(json.dumps(evaluate(*content)))
