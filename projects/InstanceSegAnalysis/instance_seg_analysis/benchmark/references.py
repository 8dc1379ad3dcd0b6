"""What the methods' own functions are measured against."""

from torch import Tensor

from embedding_instance_seg.clustering import scikit_learn_clusters


def sklearn_mean_shift(embeddings: Tensor, *, bandwidth: float, min_size: int = 1) -> Tensor:
    """Mean shift of scikit-learn with binned seeds: every pixel goes to its nearest mode.

    Args:
        embeddings (Tensor): (P, E) float.
        bandwidth (float): > 0, in units of the embedding.
        min_size (int): smaller clusters are left over.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over.

    Raises:
        UserError: scikit-learn is not installed.
    """
    settings = {"bandwidth": bandwidth, "bin_seeding": True}
    return scikit_learn_clusters("MeanShift", embeddings, min_size=max(min_size, 1), **settings)
