"""A Ray cluster to work on: one of this machine alone for as long as it is needed, or one that is
there."""

import logging
import math
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple, Optional

from ..errors import UserError

LOCAL = "local"
# Before Ray is imported: it reports to its makers, and warns of what concerns its authors.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def require_ray() -> ModuleType:
    """Ray, with Ray Data.

    Raises:
        UserError: it is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f'Prediction on Ray needs Ray Data ({error}): pip install "ray[data]".'
        ) from error
    return ray


@contextmanager
def ray_cluster(address: str = LOCAL, *, cpus: Optional[int] = None) -> "Iterator[None]":
    """Within the context this process is connected to a cluster.

    Args:
        address: ``local`` starts one on this machine, without a dashboard, and ends it; ``auto``
            or HOST:PORT joins one. A process that is connected already stays so.
        cpus: of a local one; None: those of the machine.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield
        return
    folder = tempfile.mkdtemp(prefix="ray_") if address == LOCAL else None
    own = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder} if folder else {}
    try:
        _connect(ray, address, own)
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(ray: ModuleType, address: str, own: "Mapping[str, Any]") -> None:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # each part of Ray raises its own
        raise UserError(
            f"No Ray cluster can be used at {address!r}: {error}. Write --ray alone for one on "
            "this machine, or the address that `ray start --head` shows."
        ) from error
    # Ray would end the process at once; whoever called has work to put in order.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False


class Pool(NamedTuple):
    """workers: how many; cpus, gpus: that Ray reserves for each; threads: of each."""

    workers: int
    cpus: int
    gpus: float
    threads: int


def pool_for(resources: "Mapping[str, float]", workers: Optional[int], *, wants_gpu: bool) -> Pool:
    """How a cluster is shared out.

    Args:
        resources: of the cluster, ``CPU`` and ``GPU``.
        workers: None: one for each GPU, or without GPUs for each CPU.
        wants_gpu: the model is to run on GPUs; several workers share one where there are more
            workers than GPUs.

    Raises:
        UserError: more workers than CPUs.
    """
    cpus = int(resources.get("CPU", 0))
    gpus = int(resources.get("GPU", 0)) if wants_gpu else 0
    count = workers or gpus or cpus
    if not 0 < count <= cpus:
        raise UserError(
            f"The Ray cluster has {cpus} CPUs, each worker needs one: {count} are too many. Give "
            "a smaller --workers, or a larger cluster."
        )
    threads = cpus // count
    if gpus:
        # CPUs of nodes without a GPU are counted, too, so that none but one is sure to be there.
        return Pool(count, 1, 1 / math.ceil(count / gpus), threads)
    return Pool(count, threads, 0, threads)
