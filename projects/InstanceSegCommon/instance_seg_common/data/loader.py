"""Detectron2's own mapper and loaders, made to continue exactly where a run stopped.

Every sample's random state is a function of (SEED, rank, position in the stream), so that a run
resumed at position p draws the same images with the same augmentations as one never interrupted.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetMapper,
    MapDataset,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch.utils.data import Dataset, Sampler

from ..errors import UserError
from .images import READ_ERRORS, check_readable_mode

Mapper = Callable[[dict[str, Any]], dict[str, Any]]  # data set dict -> model input


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


class SafeMapper:
    """Detectron2's mapper; a file that fails is named in a sentence, and boxes fit their masks.

    Stock ``recompute_boxes``, which is there for tight boxes, fails on images without instances.
    """

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper

    def __call__(self, dataset_dict: "dict[str, Any]") -> "dict[str, Any]":
        item = self._read(dataset_dict)
        instances = item.get("instances")
        if instances is not None and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return item

    def _read(self, dataset_dict: "dict[str, Any]") -> "dict[str, Any]":
        check_readable_mode(dataset_dict["file_name"])
        try:
            return self.mapper(dataset_dict)
        except (*READ_ERRORS, utils.SizeMismatchError) as error:
            raise UserError(
                f"The image {dataset_dict['file_name']} cannot be used: {error}. Replace or "
                "remove it; tools/check_dataset.py lists everything that is wrong with a data set."
            ) from error


def build_augmentations(cfg: CfgNode, is_train: bool) -> "list[T.Augmentation | T.Transform]":
    """The transforms before the model, in order: ``INPUT.AUGMENTATIONS``, crop, resize, flip.

    Of ``INPUT.AUGMENTATIONS`` only ``Resize`` (a fixed squash, not random) is applied at test time.

    Args:
        cfg: of which ``INPUT`` is read.
        is_train: False: for test time, without random transforms.

    Returns:
        For ``DatasetMapper`` or ``AugmentationList``.
    """
    augmentations = [
        _augmentation(name, arguments)
        for name, arguments in cfg.INPUT.AUGMENTATIONS
        if is_train or name == "Resize"
    ]
    if is_train and cfg.INPUT.CROP.ENABLED:
        augmentations.append(T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    return augmentations + utils.build_augmentation(cfg, is_train)


def _augmentation(name: str, arguments: Any) -> "T.Augmentation | T.Transform":
    kind = getattr(T, name, None)
    if not (isinstance(kind, type) and issubclass(kind, (T.Augmentation, T.Transform))):
        raise UserError(
            f"INPUT.AUGMENTATIONS names {name!r}, which is no transform of "
            "detectron2.data.transforms. Use for example RandomRotation or RandomBrightness."
        )
    try:
        return kind(**arguments) if isinstance(arguments, dict) else kind(*arguments)
    except TypeError as error:
        raise UserError(f"INPUT.AUGMENTATIONS: {name} cannot take {arguments}: {error}") from error


def build_train_mapper(
    cfg: CfgNode, augmentations: "Optional[Sequence[T.Augmentation | T.Transform]]" = None
) -> SafeMapper:
    """Detectron2's mapper for training, annotations kept.

    Args:
        cfg: of the run.
        augmentations: instead of those of the config, as for the validation loss.
    """
    if augmentations is None:
        augmentations = build_augmentations(cfg, is_train=True)
    # The stock default recomputes boxes after a crop only; SafeMapper does it always.
    return SafeMapper(DatasetMapper(cfg, True, augmentations=augmentations, recompute_boxes=False))


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


def build_test_mapper(cfg: CfgNode) -> SafeMapper:
    """Detectron2's mapper for inference, without annotations, with the config's fixed squash."""
    return SafeMapper(
        DatasetMapper(cfg, False, augmentations=build_augmentations(cfg, is_train=False))
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> torch.utils.data.DataLoader:
    """Detectron2's test loader, with errors in sentences.

    Args:
        cfg: of the run.
        dataset_name: of a registered data set.

    Returns:
        Over lists with one dict, without annotations.
    """
    return build_detection_test_loader(cfg, dataset_name, mapper=build_test_mapper(cfg))
