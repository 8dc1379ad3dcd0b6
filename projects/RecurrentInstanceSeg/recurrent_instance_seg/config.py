"""Config keys of ``RecurrentInstanceSeg``."""

from collections.abc import Mapping
from typing import Callable, Optional

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from instance_seg_common.errors import RemovedKey, UserError

from .inference import OVERLAP_RULES, SCORE_PARTS

NODE = "MODEL.RECURRENT_INSTANCE_SEG"
DECODERS = ("guided", "rsis", "ris")  # each has a sub-node of its name in capitals

DEFAULTS = {
    "NUM_CLASSES": 80,  # thing classes, without background
    # Network
    "DECODER": "rsis",  # guided (this project's), rsis or ris (as published)
    "IN_FEATURES": ["p2", "p3", "p4", "p5"],  # outputs of the backbone; ris reads one
    "HIDDEN_CHANNELS": [128, 64, 32, 16],  # of the ConvLSTMs, coarsest first (ris: first to last)
    "NORM": "GN",  # of the features' projections: GN, BN, SyncBN, FrozenBN or ""
    # Losses
    "CLASS_WEIGHT": 0.1,  # weight of the classes' cross-entropy; 1 - soft IoU has weight 1
    "STOP_WEIGHT": 0.5,  # weight of the objectness' cross-entropy
    "LOSS_STRIDE": 1,  # of the grid on which masks are compared, pixels of the network input
    "CHECKPOINTING": False,  # compute steps again in the backward pass instead of keeping them
    # Schedules
    "CURRICULUM_START": 0,  # objects asked for at first; 0 = all
    "CURRICULUM_LOSS": 0.0,  # one object more when the running 1 - soft IoU is below
    "PATIENCE": 1000,  # iterations without progress, after which one object more is asked for
    "CLASS_LOSS_AFTER": 0,  # iterations (or a stall of PATIENCE) before classes are trained
    "STOP_LOSS_AFTER": 0,  # iterations (or a stall of PATIENCE) before the objectness is trained
    # Inference
    "MAX_STEPS": 20,  # objects at most, in training and in inference
    "STOP_THRESHOLD": 0.5,  # a sequence ends at the first step with a lower objectness
    "MASK_THRESHOLD": 0.5,  # a pixel belongs to a mask above this probability
    "MIN_AREA": 1,  # pixels of the output; smaller instances are dropped
    "OVERLAP": "",  # "" leaves masks alone; "first" gives a pixel to the first that claims it
    # An instance's score is the product of: class (probability), objectness, mask (mean probability
    # of its pixels above one half). [] = all scores 1.
    "SCORE": ["class", "objectness", "mask"],
    "ALL_CLASSES": False,  # every mask once for each class, as RSIS's evaluation does
    # What one decoder alone reads: for another it cannot be set
    "GUIDED": {
        # Pixels of the network input that make an offset of the guide, and about two bandwidths of
        # the attention before training: the radius of an object.
        "UNIT": 16.0,
        # Iterations in which steps are told what was found, sequences start in the middle, and the
        # curriculum limits them; 0 = none of it
        "TEACHER_UNTIL": 0,
    },
    "RSIS": {
        "DETAIL": False,  # one more level, stride 2, by a convolution of the image
    },
    "RIS": {
        "INHIBITION_BIAS": 1.0,  # before training; masks of exp(bias) cells start above 0.5
        "INHIBITION_GAIN": 1.0,  # of the logits that compete: larger lets one object win; RIS: 1
        # Weight of -log of the share of the mask's softmax that lies on the instance; RIS: 0
        "POSITION_WEIGHT": 0.0,
    },
}


# Keys that have moved: the value that changes nothing, and their place today.
MOVED = {
    "DETAIL": (False, "RSIS.DETAIL"),
    "GUIDE_UNIT": (16.0, "GUIDED.UNIT"),
    "TEACHER_UNTIL": (0, "GUIDED.TEACHER_UNTIL"),
    "INHIBITION_BIAS": (1.0, "RIS.INHIBITION_BIAS"),
}
_PART_OF_GUIDED = "the guided decoder always has it: set DECODER to guided, or remove the key."
_NO_GAIN = "docs/recurrent.md shows no gain from it: remove the key."
# Keys that are no more: the value that changes nothing, and what became of them.
GONE = {
    "ATTENTION": (False, _PART_OF_GUIDED),
    "FEEDBACK": (False, _PART_OF_GUIDED),
    "COORDINATES": (False, _PART_OF_GUIDED),
    "MASK_POOLING": (False, _PART_OF_GUIDED),
    "GUIDE_WEIGHT": (0.0, f"always 1 where it is: {_PART_OF_GUIDED}"),
    "VOTE_WEIGHT": (0.0, f"always 3 where it is: {_PART_OF_GUIDED}"),
    "RETURN_INHIBITION": (0.0, f"always 5 at first where it is: {_PART_OF_GUIDED}"),
    "INHIBITION_GAIN": (
        1.0,
        "it is RIS.INHIBITION_GAIN for DECODER ris, and always 8 for DECODER guided.",
    ),
    "POSITION_WEIGHT": (
        0.0,
        "it is RIS.POSITION_WEIGHT for DECODER ris, and always 1 for DECODER guided.",
    ),
    "TEACHER": (
        "",
        "DECODER guided has a greedy teacher until GUIDED.TEACHER_UNTIL; there are no others.",
    ),
    "RANDOM_PREFIX": (
        False,
        "DECODER guided has it until GUIDED.TEACHER_UNTIL; other decoders cannot see what was "
        "found.",
    ),
    "INHIBITION": (False, "only DECODER ris lets the pixels of a mask compete, and always does."),
    "FORGET_BIAS": (0.0, "it is always 1 for all gates of DECODER ris, 0 for other decoders."),
    "STOP_BIAS": (0.0, "it is always 10 for DECODER ris, 0 for other decoders."),
    "STOP_BALANCED": (False, "the stop loss is never balanced: remove the key."),
    "CURRICULUM_MIN_ITERATIONS": (
        1,
        "there are always 50 iterations, or PATIENCE if that is less, between two additions.",
    ),
    "KERNEL_SIZE": (3, "all kernels of the ConvLSTMs are 3 x 3: remove the key."),
    "MASK_WEIGHT": (1.0, "1 - soft IoU has weight 1: scale the learning rate and other weights."),
    "BOX_HEAD": (False, "the boxes never left the model: remove the key."),
    "BOX_WEIGHT": (1.0, "the boxes never left the model: remove the key."),
    "BCE_WEIGHT": (0.0, _NO_GAIN),
    "DICE_WEIGHT": (0.0, _NO_GAIN),
    "COARSE_WEIGHT": (0.0, _NO_GAIN),
}
REMOVED_KEYS = {
    **{f"{NODE}.{k}": RemovedKey(d, f"it is {NODE}.{new} now.") for k, (d, new) in MOVED.items()},
    **{f"{NODE}.{key}": RemovedKey(*rule) for key, rule in GONE.items()},
}


def add_recurrent_instance_seg_config(cfg: CfgNode) -> None:
    """Register ``MODEL.RECURRENT_INSTANCE_SEG`` on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    if "RECURRENT_INSTANCE_SEG" in cfg.MODEL:
        return
    cfg.MODEL.RECURRENT_INSTANCE_SEG = CfgNode(DEFAULTS)
    # Stock Detectron2 then says what became of a key that a YAML or the command line still has.
    for key, rule in REMOVED_KEYS.items():
        name = key[len(NODE) + 1 :]
        today = f"{NODE}.{MOVED[name][1]}" if name in MOVED else "(removed)"
        cfg.register_renamed_key(key, today, message=rule.sentence)


def check_node(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> None:
    """Check that values fit together.

    Args:
        node (CfgNode): ``MODEL.RECURRENT_INSTANCE_SEG``.
        shapes (dict[str, ShapeSpec]): outputs of the backbone.

    Raises:
        UserError: they do not.
    """
    for key, check in CHECKS.items():
        problem = check(node, shapes)
        if problem:
            raise UserError(f"{NODE}.{key} is {node[key]!r}; {problem}.")
    check_sub_nodes(node)


def check_sub_nodes(node: CfgNode) -> None:
    """Raise a UserError for a key that the decoder does not read and that has another value than
    its default, or for one whose value is impossible."""
    for decoder in DECODERS:
        for key, value in node[decoder.upper()].items():
            default = DEFAULTS[decoder.upper()][key]
            if decoder != node.DECODER and value != default:
                raise UserError(
                    f"{NODE}.{decoder.upper()}.{key} is {value!r}, but DECODER is "
                    f"{node.DECODER!r}, which does not read it: leave it at {default!r}, or set "
                    f"DECODER to {decoder}."
                )
    if node.GUIDED.UNIT <= 0:
        raise UserError(f"{NODE}.GUIDED.UNIT is {node.GUIDED.UNIT}; it must be above 0.")


def _decoder_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    return None if node.DECODER in DECODERS else f"it can be {_either(DECODERS)}"


def _features_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    absent = [name for name in node.IN_FEATURES if name not in shapes]
    if absent or not node.IN_FEATURES:
        return f"the backbone has {', '.join(shapes)}"
    if node.DECODER == "ris" and len(node.IN_FEATURES) > 1:
        return "the ris decoder reads one feature map"
    if node.DECODER == "guided" and len(node.IN_FEATURES) < 2:
        return "the guided decoder needs two levels at least"
    return None


def _channels_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    if node.DECODER == "ris":
        return None if node.HIDDEN_CHANNELS else "a number is needed for each ConvLSTM"
    levels = len(node.IN_FEATURES) + (node.DECODER == "rsis" and node.RSIS.DETAIL)
    right = len(node.HIDDEN_CHANNELS) == levels
    return None if right else f"{levels} numbers are needed, one for each level"


def _stride_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    return None if node.LOSS_STRIDE in (1, 2, 4) else "it can be 1, 2 or 4"


def _steps_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    return "at least one step is needed" if node.MAX_STEPS < 1 else None


def _overlap_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    return None if node.OVERLAP in OVERLAP_RULES else "it can be first or empty"


def _score_problem(node: CfgNode, shapes: Mapping[str, ShapeSpec]) -> Optional[str]:
    unknown = [part for part in node.SCORE if part not in SCORE_PARTS]
    return f"it is made of {', '.join(SCORE_PARTS)}" if unknown else None


def _either(words: "tuple[str, ...]") -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


# What can be wrong with the value of a key, in this order; None: nothing.
CHECKS: "dict[str, Callable[[CfgNode, Mapping[str, ShapeSpec]], Optional[str]]]" = {
    "DECODER": _decoder_problem,
    "IN_FEATURES": _features_problem,
    "HIDDEN_CHANNELS": _channels_problem,
    "LOSS_STRIDE": _stride_problem,
    "MAX_STEPS": _steps_problem,
    "OVERLAP": _overlap_problem,
    "SCORE": _score_problem,
}
