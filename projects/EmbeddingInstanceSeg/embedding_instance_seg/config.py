"""Config keys of ``EmbeddingInstanceSeg``."""

from detectron2.config import CfgNode

from instance_seg_common.errors import UserError

# Distances are in units of the embedding unless a comment says otherwise.
DEFAULTS = {
    "NUM_CLASSES": 80,  # thing classes, without background
    # Network
    "IN_FEATURES": ["p2", "p3", "p4", "p5"],  # outputs of the backbone that the decoder fuses
    "CHANNELS": 64,  # of the fused pyramid
    "HEAD_CHANNELS": 32,  # of the branches, at OUTPUT_STRIDE
    "OUTPUT_STRIDE": 2,  # of logits and embeddings, pixels of the network input: 2 or 4
    "DETAIL": True,  # add a shallow branch from the image, for what stride 4 has lost
    "NORM": "GN",  # of decoder and branches, as in MODEL.FPN.NORM
    "EMBEDDING_DIM": 16,  # channels of the embedding
    "COORDINATES": False,  # the decoder sees x and y, -1 to 1 over the image
    "SEMI_CONVOLUTIONAL": False,  # add the pixel's position to the first two channels
    "POSITION_UNIT": 32.0,  # pixels of the network input that make 1 in the embedding
    "LEARNED_BANDWIDTH": False,  # predict seeds and bandwidths; the Lovasz hinge trains them
    "INITIAL_BANDWIDTH": 0.5,  # of every pixel before training
    # Losses
    "DELTA_VAR": 0.5,  # no pull within this distance of the mean
    "DELTA_DIST": 1.5,  # no push between means farther apart than twice this
    "SEMANTIC_WEIGHT": 1.0,  # weight of the cross-entropy over classes and background
    "CLASS_WEIGHT": 1.0,  # weight of the instances' classes, with CLASS_AGNOSTIC
    "VARIANCE_WEIGHT": 1.0,  # weight of the pull to the mean
    "DISTANCE_WEIGHT": 1.0,  # weight of the push between means
    "REGULARIZATION_WEIGHT": 0.001,  # weight of the means' distance to the origin
    "MASK_WEIGHT": 1.0,  # weight of the Lovasz hinge, with LEARNED_BANDWIDTH
    "BANDWIDTH_WEIGHT": 1.0,  # weight of the variance of log bandwidth within an instance
    "SEED_WEIGHT": 1.0,  # weight of the seed map's squared error
    # Inference
    "CLUSTERING": "mean_shift",  # mean_shift, sklearn_mean_shift, hdbscan or seeded
    "BANDWIDTH": 1.5,  # radius of a cluster: DELTA_DIST is half the way to the next mean
    "MAX_ITERATIONS": 100,  # shifts of one mean
    "SEED_THRESHOLD": 0.5,  # least value of the seed map at a centre, 0 to 1
    "MIN_CLUSTER_SIZE": 8,  # cells of the OUTPUT_STRIDE grid; smaller clusters are left over
    "REACH": 0.0,  # an instance takes pixels up to this many bandwidths away; 0 = any distance
    "MIN_AREA": 1,  # pixels of the output; smaller instances are dropped
    # An instance's score is the product of: probability (mean, of its class), compactness (mean
    # closeness of its pixels to its centre), seed (value at its centre). [] = all scores 1.
    "SCORE": ["probability", "compactness"],
    "CLASS_AGNOSTIC": False,  # push and cluster classes together; pixels vote on the class
    "CLUSTERING_SEED": 0,  # of the random order in which mean_shift visits pixels
}

# Keys of earlier versions: (default that it had, what became of it) by the dotted key.
REMOVED_KEYS = {}


def add_embedding_instance_seg_config(cfg):
    """Register ``MODEL.EMBEDDING_INSTANCE_SEG`` on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    if "EMBEDDING_INSTANCE_SEG" not in cfg.MODEL:
        cfg.MODEL.EMBEDDING_INSTANCE_SEG = CfgNode(DEFAULTS)


def check_node(node, shapes):
    """Check that values fit together.

    Args:
        node (CfgNode): ``MODEL.EMBEDDING_INSTANCE_SEG``.
        shapes (dict[str, ShapeSpec]): outputs of the backbone.

    Raises:
        UserError: they do not.
    """
    located, learned = node.SEMI_CONVOLUTIONAL, node.LEARNED_BANDWIDTH
    absent = [name for name in node.IN_FEATURES if name not in shapes]
    uneven = node.NORM == "GN" and (node.CHANNELS % 32 or node.HEAD_CHANNELS % 32)
    problems = {
        "OUTPUT_STRIDE": node.OUTPUT_STRIDE not in (2, 4) and "it can be 2 or 4",
        "IN_FEATURES": (absent or not node.IN_FEATURES)
        and f"the backbone has {', '.join(shapes)}: choose among these",
        "CHANNELS": uneven and "with NORM GN, CHANNELS and HEAD_CHANNELS are multiples of 32",
        "EMBEDDING_DIM": 1 + located > node.EMBEDDING_DIM
        and "at least 1 is needed, with SEMI_CONVOLUTIONAL 2",
        "CLUSTERING": (node.CLUSTERING == "seeded" and not learned)
        and "it reads seeds and bandwidths from the network: set LEARNED_BANDWIDTH True and "
        "train, or choose mean_shift",
        "SCORE": ("seed" in node.SCORE and not learned)
        and "only a network with LEARNED_BANDWIDTH True has seeds",
    }
    for key in ("POSITION_UNIT", "INITIAL_BANDWIDTH", "BANDWIDTH"):
        problems[key] = node[key] <= 0 and "it must be above 0"
    for key, problem in problems.items():
        if problem:
            raise UserError(f"MODEL.EMBEDDING_INSTANCE_SEG.{key} is {node[key]}; {problem}.")
