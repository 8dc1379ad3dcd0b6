"""Advances a schedule in two gloo processes with a loss of their own each, and in one with the
mean; writes the states as JSON.

Run as a script in a process of its own: it forks, which is quick, but no thing to do in a test run.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from recurrent_instance_seg.schedule import Schedule

# The first process alone would see a low loss, the second a stall; their mean falls, then rises.
LOSSES = torch.stack(
    [
        torch.cat([torch.linspace(1.0, 0.0, 50), torch.full((20,), 0.5)]),
        torch.cat([torch.linspace(1.0, 1.4, 50), torch.full((20,), 1.6)]),
    ]
)


def state_after(values):
    """The buffers of a schedule after these losses, as numbers."""
    schedule = Schedule(9, start=1, threshold=0.9, patience=6, min_iterations=4)
    for value in values:
        schedule.advance(value)
    return {name: x.item() for name, x in schedule.state_dict().items()}


def worker(rank, folder):
    """One of two processes."""
    init = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=init, world_size=2, rank=rank)
    own = LOSSES[rank].clone()
    (folder / f"rank{rank}.json").write_text(json.dumps(state_after(own)))
    assert torch.equal(own, LOSSES[rank]), "the mean was written into the process's own loss"
    dist.destroy_process_group()


if __name__ == "__main__":
    output = Path(sys.argv[1])
    mp.start_processes(worker, args=(output,), nprocs=2, start_method="fork")
    (output / "alone.json").write_text(json.dumps(state_after(LOSSES.mean(dim=0))))
