"""Config keys of ``RecurrentInstanceSeg``."""

from detectron2.config import CfgNode

from instance_seg_common.errors import UserError

from .inference import SCORE_PARTS

# Which instance a step is taught while TEACHER lasts: the one it overlaps best, or the next in an
# order of the objects (of their centres, or of their areas).
TEACHERS = ("", "greedy", "left_to_right", "top_to_bottom", "large_to_small")

DEFAULTS = {
    "NUM_CLASSES": 80,  # thing classes, without background
    # Network
    "DECODER": "rsis",  # rsis or ris
    "IN_FEATURES": ["p2", "p3", "p4", "p5"],  # outputs of the backbone; ris reads one
    "DETAIL": False,  # rsis: one more level, stride 2, by a convolution of the image
    "HIDDEN_CHANNELS": [128, 64, 32, 16],  # of the ConvLSTMs, coarsest first (ris: first to last)
    "KERNEL_SIZE": 3,  # of the ConvLSTMs
    "NORM": "GN",  # of the features' projections: GN, BN, SyncBN, FrozenBN or ""
    "FORGET_BIAS": 0.0,  # of the ConvLSTMs before training (ris: of all three gates)
    "INHIBITION": False,  # rsis: the pixels of a mask compete for it (ris: always)
    "INHIBITION_BIAS": 6.0,  # before training; masks of up to exp(bias) cells start above 0.5
    # Of the logits that compete, with INHIBITION, ATTENTION or ris: larger lets one object win
    "INHIBITION_GAIN": 1.0,
    "RETURN_INHIBITION": 0.0,  # of the same: handicap of found pixels, before training
    "STOP_BIAS": 0.0,  # of the objectness before training; above 0 sequences start by going on
    # rsis with GUIDE_WEIGHT and POSITION_WEIGHT: a step looks at one point, and sees which pixels
    # have its object's centre
    "ATTENTION": False,
    "FEEDBACK": False,  # rsis: the ConvLSTMs see the union of the masks so far
    "COORDINATES": False,  # rsis: the ConvLSTMs see x and y, -1 to 1 over the image
    "MASK_POOLING": False,  # classes also see the features' mean under the mask
    # With GUIDE_WEIGHT: pixels of the network input that make an offset of 1, and two bandwidths of
    # ATTENTION before training. About the radius of an object.
    "GUIDE_UNIT": 16.0,
    "BOX_HEAD": False,  # rsis: predict boxes, as the paper's later versions
    # Losses
    "MASK_WEIGHT": 1.0,  # weight of 1 - soft IoU
    "CLASS_WEIGHT": 0.1,  # weight of the cross-entropy of the classes
    "STOP_WEIGHT": 0.5,  # weight of the objectness' cross-entropy
    "STOP_BALANCED": True,  # going on and stopping count half each
    "BCE_WEIGHT": 0.0,  # weight of the masks' cross-entropy, mean over pixels
    "DICE_WEIGHT": 0.0,  # weight of the masks' Dice loss
    # Weight of -log of the share of a softmax that lies on the instance: of the mask's logits, with
    # ATTENTION of the scores of its points
    "POSITION_WEIGHT": 0.0,
    "COARSE_WEIGHT": 0.0,  # weight of 1 - soft IoU of auxiliary masks at the coarser levels
    "GUIDE_WEIGHT": 0.0,  # above 0: learn maps of classes and centres, and read them
    "VOTE_WEIGHT": 0.0,  # with GUIDE_WEIGHT: classes that an instance's pixels vote together
    "BOX_WEIGHT": 1.0,  # weight of the boxes' squared error, with BOX_HEAD
    "LOSS_STRIDE": 1,  # of the grid on which masks are compared, pixels of the network input
    "CHECKPOINTING": False,  # compute steps again in the backward pass instead of keeping them
    # Schedules
    "CURRICULUM_START": 0,  # objects asked for at first; 0 = all
    "CURRICULUM_LOSS": 0.0,  # one object more when the running 1 - soft IoU is below
    "PATIENCE": 1000,  # iterations without progress, after which one object more is asked for
    "CURRICULUM_MIN_ITERATIONS": 1,  # between two additions of an object
    "CLASS_LOSS_AFTER": 0,  # iterations (or a stall of PATIENCE) before classes are trained
    "STOP_LOSS_AFTER": 0,  # iterations (or a stall of PATIENCE) before the objectness is trained
    "TEACHER": "",  # greedy, left_to_right, top_to_bottom, large_to_small or none: see TEACHERS
    "RANDOM_PREFIX": False,  # count a random share of the objects as found before the first step
    "TEACHER_UNTIL": 0,  # iterations that TEACHER, RANDOM_PREFIX and with them the curriculum last
    # Inference
    "MAX_STEPS": 20,  # objects at most, in training and in inference
    "STOP_THRESHOLD": 0.5,  # a sequence ends at the first step with a lower objectness
    "MASK_THRESHOLD": 0.5,  # a pixel belongs to a mask above this probability
    "MIN_AREA": 1,  # pixels of the output; smaller instances are dropped
    "OVERLAP": "",  # "" leaves masks alone; "best" or "first" gives a pixel to one of them
    # An instance's score is the product of: class (probability), objectness, mask (mean probability
    # of its own pixels). [] = all scores 1.
    "SCORE": ["class", "objectness", "mask"],
    "ALL_CLASSES": False,  # every mask once for each class, as RSIS's evaluation does
}

# Keys of earlier versions: (default that it had, what became of it) by the dotted key.
REMOVED_KEYS = {}


def add_recurrent_instance_seg_config(cfg):
    """Register ``MODEL.RECURRENT_INSTANCE_SEG`` on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    if "RECURRENT_INSTANCE_SEG" not in cfg.MODEL:
        cfg.MODEL.RECURRENT_INSTANCE_SEG = CfgNode(DEFAULTS)


def check_node(node, shapes):
    """Check that values fit together.

    Args:
        node (CfgNode): ``MODEL.RECURRENT_INSTANCE_SEG``.
        shapes (dict[str, ShapeSpec]): outputs of the backbone.

    Raises:
        UserError: they do not.
    """
    absent = [name for name in node.IN_FEATURES if name not in shapes]
    rsis = node.DECODER == "rsis"
    levels = len(node.IN_FEATURES) + node.DETAIL
    unknown = [part for part in node.SCORE if part not in SCORE_PARTS]
    inhibited = node.INHIBITION or node.ATTENTION
    reads_memory = rsis and (node.FEEDBACK or (inhibited and node.RETURN_INHIBITION > 0))
    trained = node.GUIDE_WEIGHT > 0 and node.POSITION_WEIGHT > 0
    problems = {
        "DECODER": node.DECODER not in ("rsis", "ris") and "it can be rsis or ris",
        "IN_FEATURES": (
            (absent or not node.IN_FEATURES) and f"the backbone has {', '.join(shapes)}"
        )
        or (not rsis and levels > 1 and "the ris decoder reads one feature map, without DETAIL"),
        "HIDDEN_CHANNELS": (
            not node.HIDDEN_CHANNELS or (rsis and len(node.HIDDEN_CHANNELS) != levels)
        )
        and f"{levels} numbers are needed, one for each level",
        "COARSE_WEIGHT": (rsis and levels == 1 and node.COARSE_WEIGHT > 0)
        and "there is no coarser level than that of the mask: set it to 0 or read more IN_FEATURES",
        "GUIDE_UNIT": node.GUIDE_UNIT <= 0 and "it must be above 0",
        "KERNEL_SIZE": node.KERNEL_SIZE % 2 == 0 and "it must be odd",
        "TEACHER": node.TEACHER not in TEACHERS and f"it can be one of {', '.join(TEACHERS[1:])}",
        "LOSS_STRIDE": node.LOSS_STRIDE not in (1, 2, 4) and "it can be 1, 2 or 4",
        "MAX_STEPS": node.MAX_STEPS < 1 and "at least one step is needed",
        "OVERLAP": node.OVERLAP not in ("", "best", "first") and "it can be best, first or empty",
        "SCORE": unknown and f"it is made of {', '.join(SCORE_PARTS)}",
        "ATTENTION": (rsis and node.ATTENTION and (levels < 2 or not trained))
        and "it needs GUIDE_WEIGHT and POSITION_WEIGHT above 0, and two levels at least",
        "VOTE_WEIGHT": (node.VOTE_WEIGHT > 0 and node.GUIDE_WEIGHT == 0)
        and "it is the guide that votes: set GUIDE_WEIGHT above 0",
        "RANDOM_PREFIX": (node.RANDOM_PREFIX and not reads_memory)
        and "the decoder cannot see what is found: set DECODER rsis and FEEDBACK True",
    }
    for key, problem in problems.items():
        if problem:
            raise UserError(f"MODEL.RECURRENT_INSTANCE_SEG.{key} is {node[key]!r}; {problem}.")
