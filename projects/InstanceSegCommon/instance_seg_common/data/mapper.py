"""From a record of a data set to the input of a model: Detectron2's mapper with our own reading.

Of Detectron2's ``DatasetMapper`` it keeps the configuration, keypoints and proposals; the image is
read by ``model_image`` and transformed by ``augmented``, the masks by ``cut_annotations``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..errors import UserError
from .augmented import augmented
from .cut_annotations import transformed_instances
from .image_facts import require_stated_size
from .images import READ_ERRORS, read_stock
from .model_image import open_model_image
from .pixel_limit import set_pixel_limit
from .reading import READING

Transforms = Sequence["T.Augmentation | T.Transform"]
# Of a record, what does not go on to the model as it is.
_READ_HERE = ("annotations", "sem_seg_file_name", READING)
WHOLE = 1.5  # times TEST.TILE_SIZE
# They mix red, green and blue.
_OF_COLOURS = ("RandomSaturation", "RandomLighting")


class UpTo(T.Augmentation):
    """Augmentations for images up to a size; larger ones pass as they are.

    Args:
        largest: of height and width, pixels.
        augmentations: in their order.
    """

    def __init__(self, largest: int, augmentations: Transforms) -> None:
        super().__init__()
        self.largest, self.augmentations = largest, T.AugmentationList(list(augmentations))

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        if max(aug_input.image.shape[:2]) > self.largest:
            return T.NoOpTransform()
        return self.augmentations(aug_input)


class InstanceMapper(DatasetMapper):
    """Records to inputs; a file that fails is named in a sentence, and boxes fit their masks."""

    def __init__(self, cfg: CfgNode, *, is_train: bool, augmentations: Transforms) -> None:
        """
        Args:
            cfg: of the run.
            is_train: annotations are kept.
            augmentations: of :func:`build_augmentations`.
        """
        super().__init__(cfg, is_train, augmentations=list(augmentations), recompute_boxes=False)
        self.cfg = cfg

    def __call__(self, dataset_dict: "Mapping[str, Any]") -> "dict[str, Any]":
        """The input of a model.

        Args:
            dataset_dict (dict): a record, which is left as it is.

        Returns:
            dict: the record's other keys; ``image`` (C, h, w) tensor; ``sem_seg`` (h, w) int64
            where the record has ignored regions; in training ``instances``.

        Raises:
            UserError: a file that cannot be used.
        """
        with errors_in_sentences(dataset_dict):
            return self._map(dataset_dict)

    def _map(self, record):
        item, transforms = image_input(self.cfg, record, self.augmentations.augs)
        size = tuple(item["image"].shape[1:])
        if self.proposal_topk is not None:
            utils.transform_proposals(item, size, transforms, proposal_topk=self.proposal_topk)
        if self.is_train and "annotations" in record:
            item["annotations"] = record["annotations"]
            self._transform_annotations(item, transforms, size)
        return item

    def _transform_annotations(self, dataset_dict, transforms, image_shape):
        if self.use_keypoint or not self.use_instance_mask:
            dataset_dict["annotations"] = [dict(a) for a in dataset_dict["annotations"]]
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        dataset_dict["instances"] = transformed_instances(
            dataset_dict.pop("annotations"),
            transforms,
            image_shape,
            mask_format=self.instance_mask_format,
        )


@contextmanager
def errors_in_sentences(record: "Mapping[str, Any]") -> "Iterator[None]":
    """What fails on the files of a record becomes a UserError that names its image."""
    try:
        yield
    except (*READ_ERRORS, utils.SizeMismatchError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"The image {record['file_name']} cannot be used: {error}. Replace "
            "the file; tools/check_dataset.py lists everything that is wrong with a data set."
        ) from error


def image_input(
    cfg: CfgNode, record: "Mapping[str, Any]", augmentations: Transforms
) -> "tuple[dict[str, Any], T.TransformList]":
    """The image of a record and its ignored regions, as a model takes them.

    Args:
        cfg: of the run.
        record (dict): of a data set, left as it is.
        augmentations: in their order.

    Returns:
        The record's keys except its annotations, with ``height`` and ``width`` before the
        augmentations, ``image`` (C, h, w) and, where the record has ignored regions, ``sem_seg``
        (h, w) int64, both after them; what the augmentations were.
    """
    item = {key: value for key, value in record.items() if key not in _READ_HERE}
    set_pixel_limit(cfg.INPUT.MAX_PIXELS)  # a worker process may have been spawned
    image = open_model_image(cfg, record).cut()
    require_stated_size(record, image.shape[:2])
    utils.check_image_size(item, image)
    ignored = None
    if "sem_seg_file_name" in record:
        ignored = read_stock(record["sem_seg_file_name"], "L")[:, :, 0]
    result, transforms = augmented(image, augmentations, sem_seg=ignored)
    item["image"] = image_tensor(result.image)
    if result.sem_seg is not None:
        item["sem_seg"] = torch.as_tensor(result.sem_seg.astype("long"))
    return item, transforms


def pixels_input(pixels: np.ndarray, augmentations: Transforms) -> "dict[str, Any]":
    """An image (H, W, C) in the model's form, as a model takes it after some augmentations.

    Args:
        pixels: of :class:`model_image.ModelImage`.
        augmentations: in their order.

    Returns:
        ``image`` (C, h, w) tensor, ``height`` H, ``width`` W.
    """
    image = image_tensor(augmented(pixels, augmentations)[0].image)
    return {"image": image, "height": pixels.shape[0], "width": pixels.shape[1]}


def image_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) as (C, H, W), of the same dtype."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


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
        _augmentation(name, arguments, channels=len(cfg.MODEL.PIXEL_MEAN))
        for name, arguments in cfg.INPUT.AUGMENTATIONS
        if is_train or name == "Resize"
    ]
    if is_train and cfg.INPUT.CROP.ENABLED:
        augmentations.append(T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    return augmentations + utils.build_augmentation(cfg, is_train)


def _augmentation(name: str, arguments: Any, *, channels: int) -> "T.Augmentation | T.Transform":
    kind = getattr(T, name, None)
    if not (isinstance(kind, type) and issubclass(kind, (T.Augmentation, T.Transform))):
        raise UserError(
            f"INPUT.AUGMENTATIONS names {name!r}, which is no transform of "
            "detectron2.data.transforms. Use for example RandomRotation or RandomBrightness."
        )
    if name in _OF_COLOURS and channels != 3:
        raise UserError(
            f"INPUT.AUGMENTATIONS names {name}, which needs 3 channels, but MODEL.PIXEL_MEAN has "
            f"{channels}. Leave it out; RandomBrightness and RandomContrast take any number."
        )
    try:
        return kind(**arguments) if isinstance(arguments, dict) else kind(*arguments)
    except TypeError as error:
        raise UserError(f"INPUT.AUGMENTATIONS: {name} cannot take {arguments}: {error}") from error


def build_train_mapper(
    cfg: CfgNode, augmentations: "Optional[Transforms]" = None
) -> InstanceMapper:
    """The mapper for training, annotations kept.

    Args:
        cfg: of the run.
        augmentations: instead of those of the config, as for the validation loss.
    """
    if augmentations is None:
        augmentations = build_augmentations(cfg, is_train=True)
    return InstanceMapper(cfg, is_train=True, augmentations=augmentations)


def build_test_mapper(cfg: CfgNode, *, tiled: bool = False) -> InstanceMapper:
    """The mapper for inference, without annotations.

    Args:
        cfg, tiled: of :func:`build_test_augmentations`.
    """
    augmentations = build_test_augmentations(cfg, tiled=tiled)
    return InstanceMapper(cfg, is_train=False, augmentations=augmentations)


def build_test_augmentations(cfg: CfgNode, *, tiled: bool = False) -> "list[Any]":
    """The transforms before inference: the config's fixed squash, or its size at test time.

    Args:
        cfg: of the run.
        tiled: for a ``tiling.TiledModel``, which resizes tiles: images that are larger than
            :func:`largest_whole` keep their size.
    """
    augmentations = build_augmentations(cfg, is_train=False)
    if tiled and cfg.TEST.get("TILE_SIZE", 0):
        return [UpTo(largest_whole(cfg), augmentations)]
    return augmentations


def build_tile_augmentations(cfg: CfgNode, shorter_side: int) -> "list[Any]":
    """The transforms of a tile, which is resized by the factor of one of ``TEST.TILE_SIZE``.

    Args:
        cfg: of the run.
        shorter_side: of the tile, pixels.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = round(cfg.INPUT.MIN_SIZE_TEST * shorter_side / cfg.TEST.TILE_SIZE)
    return build_augmentations(cfg, is_train=False)


def largest_whole(cfg: CfgNode) -> int:
    """The longest side of an image that is predicted whole, where ``TEST.TILE_SIZE`` is not 0.

    Two tiles of little more than half of it would have less around each object than the image has
    (docs/results.md: 1.0 segm AP less on images of 520 x 696 pixels among the nuclei).
    """
    return int(WHOLE * cfg.TEST.TILE_SIZE)
