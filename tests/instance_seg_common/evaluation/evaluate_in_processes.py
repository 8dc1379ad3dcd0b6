"""Evaluates a small set with two gloo processes and with one; writes both results as JSON.

Run as a script in a process of its own: it forks, which is quick, but no thing to do in a test run.
"""

import json
import sys
from pathlib import Path

import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.config import add_common_config
from instance_seg_common.evaluation import build_evaluator

NAME = "evaluated_in_processes"
RECORDS = [make_record(number, grid_masks(number)) for number in range(1, 6)]
PREDICTIONS = [make_instances(grid_masks(number + 1)) for number in range(1, 6)]


def evaluate():
    """Results of this process, which sees every world-size-th image."""
    cfg = get_cfg()
    add_common_config(cfg)
    share = slice(comm.get_rank(), None, comm.get_world_size())
    return run(build_evaluator(cfg, NAME), RECORDS[share], PREDICTIONS[share])


def worker(rank, folder):
    """One of two processes."""
    init = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=init, world_size=2, rank=rank)
    comm.create_local_process_group(2)
    (folder / f"rank{rank}.json").write_text(json.dumps(evaluate()))
    dist.destroy_process_group()


if __name__ == "__main__":
    output = Path(sys.argv[1])
    DatasetCatalog.register(NAME, lambda: RECORDS)
    MetadataCatalog.get(NAME).set(thing_classes=["object"])
    mp.start_processes(worker, args=(output,), nprocs=2, start_method="fork")
    (output / "alone.json").write_text(json.dumps(evaluate()))
