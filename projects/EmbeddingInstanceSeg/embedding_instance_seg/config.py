"""Config keys of ``EmbeddingInstanceSeg``."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from instance_seg_common.errors import RemovedKey, UserError

NODE = "MODEL.EMBEDDING_INSTANCE_SEG"
# Distances are in units of the embedding unless a comment says otherwise.
DEFAULTS = {
    "NUM_CLASSES": 80,  # thing classes, without background
    # Network
    "IN_FEATURES": ["p2", "p3", "p4", "p5"],  # outputs of the backbone that the decoder fuses
    "CHANNELS": 64,  # of the fused pyramid
    "HEAD_CHANNELS": 32,  # at strides 4 and 2; half of them at stride 1
    "OUTPUT_STRIDE": 2,  # of logits and embeddings, pixels of the network input: 1, 2 or 4
    "NORM": "GN",  # of the decoder, as in MODEL.FPN.NORM
    "EMBEDDING_DIM": 16,  # channels of the embedding
    "COORDINATES": False,  # the decoder sees x and y, -1 to 1 over the image
    "SEMI_CONVOLUTIONAL": False,  # add the pixel's position to the first two channels
    "POSITION_UNIT": 32.0,  # pixels of the network input that make 1 in the embedding
    # Losses
    "DELTA_VAR": 0.5,  # no pull within this distance of the mean
    "DELTA_DIST": 1.5,  # no push between means farther apart than twice this
    "SEMANTIC_WEIGHT": 1.0,  # weight of cross-entropy and Dice loss of classes and background
    "CLASS_WEIGHT": 1.0,  # weight of the instances' classes, with CLASS_AGNOSTIC
    "VARIANCE_WEIGHT": 1.0,  # weight of the pull to the mean
    "DISTANCE_WEIGHT": 1.0,  # weight of the push between means
    "REGULARIZATION_WEIGHT": 0.001,  # weight of the means' distance to the origin
    # Inference
    # mean_shift, hdbscan, or seeded: the network predicts seeds and bandwidths, and the Lovasz
    # hinge takes the place of variance and distance.
    "CLUSTERING": "mean_shift",
    # Radius of a cluster of mean_shift: DELTA_DIST is half the way to the next mean.
    "BANDWIDTH": 1.5,
    "SEED_THRESHOLD": 0.5,  # least value of the seed map at a centre, 0 to 1
    # Cells of the OUTPUT_STRIDE grid; smaller clusters of mean_shift and hdbscan are left over.
    "MIN_CLUSTER_SIZE": 8,
    "REACH": 0.0,  # an instance takes pixels up to this many bandwidths away; 0 = any distance
    "MIN_AREA": 1,  # pixels of the output; smaller instances are dropped
    # An instance's score is the product of: probability (mean, of its class), compactness (mean
    # closeness of its pixels to its centre), seed (value at its centre). [] = all scores 1.
    "SCORE": ["probability", "compactness"],
    "CLASS_AGNOSTIC": False,  # push and cluster classes together; pixels vote on the class
}


REMOVED_KEYS = {
    f"{NODE}.DETAIL": RemovedKey(
        True,
        "Delete the line: below stride 4 the decoder always reads the image, too; OUTPUT_STRIDE 4 "
        "is without.",
    ),
    f"{NODE}.LEARNED_BANDWIDTH": RemovedKey(
        False,
        "Delete the line: CLUSTERING seeded implies seeds and bandwidths that the network learns, "
        "and no other clustering has them.",
    ),
    f"{NODE}.INITIAL_BANDWIDTH": RemovedKey(
        0.5, "Delete the line: every bandwidth is 0.5 before training."
    ),
    f"{NODE}.MAX_ITERATIONS": RemovedKey(
        100, "Delete the line: mean_shift moves a mean at most 100 times."
    ),
    f"{NODE}.CLUSTERING_SEED": RemovedKey(
        0, "Delete the line: mean_shift visits pixels in the order of random seed 0."
    ),
    f"{NODE}.MASK_WEIGHT": RemovedKey(
        1.0, "Delete the line: the Lovasz hinge has weight 1; SEMANTIC_WEIGHT weighs the rest."
    ),
    f"{NODE}.BANDWIDTH_WEIGHT": RemovedKey(
        1.0, "Delete the line: the variance of the bandwidths has weight 1."
    ),
    f"{NODE}.SEED_WEIGHT": RemovedKey(
        1.0, "Delete the line: the error of the seed map has weight 1."
    ),
}


def add_embedding_instance_seg_config(cfg: CfgNode) -> None:
    """Register ``MODEL.EMBEDDING_INSTANCE_SEG`` on ``cfg``; a second call changes nothing.

    A key of an earlier version in a file that is merged later raises yacs's KeyError, which says
    what became of it.

    Args:
        cfg (detectron2.config.CfgNode): not frozen; the root.
    """
    if "EMBEDDING_INSTANCE_SEG" in cfg.MODEL:
        return
    cfg.MODEL.EMBEDDING_INSTANCE_SEG = CfgNode(DEFAULTS)
    for key, (_, sentence) in REMOVED_KEYS.items():
        cfg.register_renamed_key(key, "(removed)", message=sentence)


def check_node(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> None:
    """Check that values fit together.

    Args:
        node (CfgNode): ``MODEL.EMBEDDING_INSTANCE_SEG``.
        shapes (dict[str, ShapeSpec]): outputs of the backbone.

    Raises:
        UserError: they do not.
    """
    absent = set(node.IN_FEATURES) - set(shapes)
    grouped = node.NORM == "GN"
    multiple = 64 if node.OUTPUT_STRIDE == 1 else 32  # of HEAD_CHANNELS: stride 1 has half of them
    levels = f"the backbone has {', '.join(shapes)}: choose among these"
    room = "at least 1 is needed, with SEMI_CONVOLUTIONAL 2"
    seeds = "only a network with CLUSTERING seeded has seeds"
    groups = "NORM GN needs a multiple of"
    checks = (
        ("OUTPUT_STRIDE", node.OUTPUT_STRIDE in (1, 2, 4), "it can be 1, 2 or 4"),
        ("IN_FEATURES", bool(node.IN_FEATURES) and not absent, levels),
        ("CHANNELS", not (grouped and node.CHANNELS % 32), f"{groups} 32"),
        ("HEAD_CHANNELS", not (grouped and node.HEAD_CHANNELS % multiple), f"{groups} {multiple}"),
        ("EMBEDDING_DIM", node.EMBEDDING_DIM > node.SEMI_CONVOLUTIONAL, room),
        ("SCORE", "seed" not in node.SCORE or node.CLUSTERING == "seeded", seeds),
        ("POSITION_UNIT", node.POSITION_UNIT > 0, "it must be above 0"),
        ("BANDWIDTH", node.BANDWIDTH > 0, "it must be above 0"),
    )
    for key, fits, problem in checks:
        if not fits:
            raise UserError(f"{NODE}.{key} is {node[key]}; {problem}.")
