"""What the processes of a distributed evaluation have, brought to the main one."""

import itertools
from typing import TypeVar

from detectron2.utils import comm

Item = TypeVar("Item")


def gather_list(items: "list[Item]") -> "list[Item]":
    """Items of all processes in the order of the ranks, in the main process; [] in the others."""
    comm.synchronize()
    return list(itertools.chain(*comm.gather(items, dst=0)))
