"""Which losses a model is trained with, and their weights.

Shape shorthand in this module:
    B: images in the batch   H, W: padded network input   s: output stride   h, w: H / s, W / s
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..segments import grid_cells
from .bandwidth import bandwidth_losses
from .discriminative import discriminative_loss
from .seeds import seed_loss
from .semantic import instance_class_loss, semantic_loss, semantic_targets


@dataclass(frozen=True)
class Criterion:
    """The weighted losses of a batch.

    Attributes:
        num_classes (int): without background.
        weights (dict[str, float]): by the loss's name; a loss without a weight is left out. With
            one for ``loss_class``, instances of all classes push each other apart.
        delta_var, delta_dist (float): margins of ``discriminative_loss``.
    """

    num_classes: int
    weights: Mapping[str, float]
    delta_var: float
    delta_dist: float

    def __call__(
        self, outputs: Mapping[str, Tensor], instance_ids: Tensor, class_ids: Tensor
    ) -> "dict[str, Tensor]":
        """
        Args:
            outputs (dict[str, Tensor]): of ``EmbeddingHead``; with ``seed``, the losses of seeds
                and bandwidths take the place of the discriminative loss.
            instance_ids, class_ids (Tensor): (B, H, W) int64 of ``masks.id_maps_from_inputs``.

        Returns:
            dict[str, Tensor]: weighted scalars.

        Raises:
            UserError: a class that is not below ``num_classes``.
        """
        s = instance_ids.shape[-1] // outputs["embedding"].shape[-1]
        ids, classes = (grid_cells(x, s) for x in (instance_ids, class_ids))
        targets = semantic_targets(instance_ids, class_ids, self.num_classes)
        losses = {"loss_semantic": semantic_loss(outputs["semantic"], targets)}
        agnostic = "loss_class" in self.weights
        if agnostic:
            losses["loss_class"] = instance_class_loss(outputs["semantic"], ids, classes)
        if "seed" in outputs:
            maps = outputs["embedding"], outputs["log_bandwidth"]
            losses |= bandwidth_losses(*maps, instance_ids=ids)
            losses["loss_seed"] = seed_loss(outputs["seed"], ids)
        else:
            losses |= discriminative_loss(
                outputs["embedding"],
                ids,
                None if agnostic else classes,
                delta_var=self.delta_var,
                delta_dist=self.delta_dist,
            )
        return {name: losses[name] * weight for name, weight in self.weights.items()}
