"""tools/train_net.py, whose processes are forked: they share the libraries that are imported here.

Run as a script in a process of its own: a test run is no place to fork several processes.
"""

import functools
import runpy
from pathlib import Path

import torch.multiprocessing as mp

if __name__ == "__main__":
    mp.start_processes = functools.partial(mp.start_processes, start_method="fork")
    tool = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
    runpy.run_path(str(tool), run_name="__main__")
