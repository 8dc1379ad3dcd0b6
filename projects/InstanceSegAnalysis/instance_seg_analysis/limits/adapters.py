"""A method with its knob: the network runs once an image, settings are tried on what it gave.

A setting is a dict {config key: value}; what is not in it is as in the config. The key
``SUPPRESSION`` names one of a method's rules against duplicates. The adapters of the single
methods are in ``instance_seg_analysis.methods``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

SUPPRESSION = "suppression"
DETECTIONS = "TEST.DETECTIONS_PER_IMAGE"
# Of a threshold that is a fraction, and of a knob in units of its own: times the config's value.
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 10))
FACTORS = tuple(round(0.2 * step, 1) for step in range(1, 10))
Setting = Mapping[str, Any]


class Knob(NamedTuple):
    """key: of the config; name: for people; default: the config's value; values: what is tried."""

    key: str
    name: str
    default: float
    values: tuple[float, ...]


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def threshold_knob(cfg: CfgNode, key: str, name: str) -> Knob:
    """A knob between 0 and 1."""
    return Knob(key, name, value_of(cfg, key), SWEEP)


def limit_of(cfg: CfgNode, setting: Setting) -> Optional[int]:
    """How many instances of an image are kept under a setting; None: all."""
    limit = setting.get(DETECTIONS, value_of(cfg, DETECTIONS))
    return limit if limit >= 0 else None


class MethodAdapter:
    """A model of which nothing can be set after the network: it is run, and that is all.

    A method's own adapter overrides ``run``, which returns whatever ``predict`` needs.

    Args:
        cfg (CfgNode): of the model.
        model (nn.Module): in evaluation mode.

    Attributes:
        knob (Knob or None)
        capacities (dict[str, int]): config key -> how many it allows; without those set to "all".
        suppressions (tuple[str]): rules against duplicates, the config's own first.
        proposal_limit (str or None): the one of ``capacity_keys`` that limits proposals.
        note (str): what is left out, as a sentence.
    """

    knob: Optional[Knob] = None
    suppressions: tuple[str, ...] = ("",)
    capacity_keys: tuple[str, ...] = ()
    proposal_limit: Optional[str] = None

    def __init__(self, cfg: CfgNode, model: nn.Module):
        self.cfg = cfg
        self.model = model
        self.knob = self.knob_of(cfg)
        self.note = "" if self.knob else f"{cfg.MODEL.META_ARCHITECTURE} has no knob to sweep."
        values = {key: value_of(cfg, key) for key in self.capacity_keys}
        self.capacities = {key: value for key, value in values.items() if value >= 0}

    def knob_of(self, cfg: CfgNode) -> Optional[Knob]:
        """The method's knob; None without one."""
        return None

    def run(self, item: Mapping[str, Any]) -> Any:
        """Everything before the settings.

        Args:
            item (dict): one model input.

        Returns:
            Any: for ``predict``.
        """
        return self.model([item])[0]["instances"].to("cpu")

    def predict(self, state: Any, setting: Setting) -> Instances:
        """What the model would return with other values in its config.

        Args:
            state (Any): of ``run``.
            setting (dict): {config key: value}.

        Returns:
            Instances: on the CPU, at the size of the output.
        """
        return state

    def claims(self, state: Any) -> Instances:
        """Instances with the config's values, before a rule gives each pixel to one of them."""
        return self.predict(state, {})
