"""Trains tiny models in two gloo processes, one of which never sees an instance; writes as JSON
what has to agree.

Run as a script in a process of its own: it forks, which is quick, but no thing to do in a test run.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import create_ddp_model
from detectron2.utils import comm

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "embedding_instance_seg"))

from tiny_embedding import item  # noqa: E402
from tiny_recurrent import EVERY_PART, RIS, TEACHING, build_tiny  # noqa: E402

ONSETS = {"CLASS_LOSS_AFTER": 2, "STOP_LOSS_AFTER": 3, "CURRICULUM_LOSS": 2.0}
KINDS = {
    "rsis": {},
    "guided": {**EVERY_PART, **TEACHING, **ONSETS, "CHECKPOINTING": False},
    "ris": {**RIS, **ONSETS, "CURRICULUM_START": 1},
}


def trained(kind, rank):
    """Sum of all weights, and the schedule, after four iterations of this process."""
    model = create_ddp_model(
        build_tiny(**kind),
        broadcast_buffers=False,
        device_ids=None,  # stock gives CPUs a number
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    losses = []
    for _ in range(4):
        batch = [item(boxes=()), item(37, 25, boxes=())] if rank else [item()]
        loss = model(batch)
        optimizer.zero_grad()
        sum(loss.values()).backward()
        optimizer.step()
        losses.append(float(loss["loss_mask"].detach()))
    weights = [float(p.detach().double().sum()) for p in model.parameters()]
    schedule = {name: float(x) for name, x in model.module.schedule.state_dict().items()}
    return {"weights": weights, "schedule": schedule, "losses": losses}


def worker(rank, folder):
    """One of two processes."""
    torch.set_num_threads(1)
    init = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=init, world_size=2, rank=rank)
    comm.create_local_process_group(2)
    results = {name: trained(kind, rank) for name, kind in KINDS.items()}
    (folder / f"rank{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.start_processes(worker, args=(Path(sys.argv[1]),), nprocs=2, start_method="fork")
