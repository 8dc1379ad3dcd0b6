"""What the network says about one image.

Shape shorthand in this module:
    C: classes without background   E: embedding channels   s: output stride
    H, W: network input without padding   h, w: the grid of stride s over it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Maps:
    """What the network says about one image, without padding.

    Attributes:
        probabilities (Tensor): (C + 1, H, W) float, of classes and background (last).
        embedding (Tensor): (E, h, w) float.
        embedding_full (Tensor): (E, H, W) float, the same, interpolated.
        seed (Tensor or None): (h, w) float in [0, 1].
        bandwidth (Tensor or None): (h, w) float, in units of the embedding.
        stride (int): s.
    """

    probabilities: Tensor
    embedding: Tensor
    embedding_full: Tensor
    seed: Optional[Tensor]
    bandwidth: Optional[Tensor]
    stride: int


def likeliest(probabilities: Tensor) -> Tensor:
    """The class with the highest of (C + 1, H, W) probabilities: (H, W) int64."""
    return probabilities.max(dim=0).indices  # on a CPU many times faster than argmax(dim=0)


def image_maps(
    outputs: Mapping[str, Tensor], index: int, size: "tuple[int, int]", *, stride: int
) -> Maps:
    """One image's part of the network's outputs, brought to the size of the network input.

    Args:
        outputs (dict[str, Tensor]): of :class:`~.head.EmbeddingHead`, for a padded batch.
        index (int): of the image in the batch.
        size (tuple[int, int]): (H, W), without padding.
        stride (int): s.

    Returns:
        Maps
    """
    height, width = size
    # The cells whose centre pixel lies in the image, which are those that training counts.
    rows, columns = (len(range(stride // 2, n, stride)) or 1 for n in size)
    cells = {name: x[index, ..., :rows, :columns] for name, x in outputs.items()}
    padded = [n * stride for n in outputs["embedding"].shape[-2:]]

    def enlarge(name: str) -> Tensor:
        x = outputs[name][index][None]
        x = F.interpolate(x, size=padded, mode="bilinear", align_corners=False)
        return x[0, :, :height, :width]

    return Maps(
        probabilities=enlarge("semantic").softmax(dim=0),
        embedding=cells["embedding"],
        embedding_full=enlarge("embedding"),
        seed=cells["seed"].sigmoid() if "seed" in cells else None,
        bandwidth=cells["log_bandwidth"].exp() if "seed" in cells else None,
        stride=stride,
    )
