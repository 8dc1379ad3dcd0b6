"""Detectron2's loaders, made to continue exactly where a run stopped.

Every sample's random state is a function of (SEED, rank, position in the stream), so that a run
resumed at position p draws the same images with the same augmentations as one never interrupted.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    MapDataset,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch.utils.data import Dataset, Sampler

from ..errors import UserError
from .mapper import build_test_mapper, build_train_mapper


class ResumableSampler(Sampler):
    """Yields (position, index) of another sampler's stream, from a given position on.

    Args:
        sampler: infinite, one stream for each rank, the same whenever it is iterated over.
        start: how many indices of this rank are skipped.
    """

    def __init__(self, sampler: "Sampler[int]", start: int = 0) -> None:
        self.sampler = sampler
        self.start = start

    def __iter__(self) -> "Iterator[tuple[int, int]]":
        return itertools.islice(enumerate(self.sampler), self.start, None)


class SeededDataset(Dataset):
    """Maps (position, index) to ``dataset[index]``, with the random state set from the position.

    Args:
        dataset: map-style, already with its mapper.
        seed: of the run.
        rank: of this process.
    """

    def __init__(self, dataset: MapDataset, seed: int, rank: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: "tuple[int, int]") -> "dict[str, Any]":
        position, index = key
        sequence = np.random.SeedSequence([self.seed, self.rank, position])
        seed_all_rng(int(sequence.generate_state(1)[0] % 2**31))
        return self.dataset[index]


def build_train_loader(cfg: CfgNode, start_iter: int = 0) -> "Iterable[list[dict[str, Any]]]":
    """Infinite loader of training batches from iteration ``start_iter`` on.

    Exact continuation needs ``DATALOADER.ASPECT_RATIO_GROUPING: False``: grouping keeps images back
    until a batch of their shape is full.

    Args:
        cfg: of the run, with ``SEED`` >= 0 for a reproducible order.
        start_iter: iterations already done, by all ranks alike.

    Returns:
        Over lists of ``SOLVER.IMS_PER_BATCH`` / world size dicts.
    """
    dicts = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    batch_size = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    dataset = MapDataset(DatasetFromList(dicts, copy=False), build_train_mapper(cfg))
    return build_detection_train_loader(
        SeededDataset(dataset, seed, comm.get_rank()),
        mapper=None,
        sampler=ResumableSampler(_sampler(cfg, dicts, seed), start_iter * batch_size),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def _sampler(cfg: CfgNode, dicts: "list[dict[str, Any]]", seed: int) -> "Sampler[int]":
    kind = cfg.DATALOADER.SAMPLER_TRAIN
    if kind == "TrainingSampler":
        return TrainingSampler(len(dicts), seed=seed)
    if kind == "RepeatFactorTrainingSampler":
        repeat_factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dicts, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        return RepeatFactorTrainingSampler(repeat_factors, seed=seed)
    raise UserError(
        f"DATALOADER.SAMPLER_TRAIN is {kind!r}; use TrainingSampler or RepeatFactorTrainingSampler."
    )


def build_test_loader(
    cfg: CfgNode, dataset_name: str, *, tiled: bool = False
) -> torch.utils.data.DataLoader:
    """Detectron2's test loader, with errors in sentences.

    Args:
        cfg: of the run.
        dataset_name: of a registered data set.
        tiled: see ``mapper.build_test_mapper``.

    Returns:
        Over lists with one dict, without annotations.
    """
    mapper = build_test_mapper(cfg, tiled=tiled)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
