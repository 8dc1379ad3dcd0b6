"""Analysis of the recurrent method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.structures import Instances

from instance_seg_analysis.internals.recurrent import draw_recurrent
from instance_seg_analysis.limits.adapters import (
    Knob,
    MethodAdapter,
    Setting,
    limit_of,
    threshold_knob,
)
from instance_seg_common.meta_arch import wanted_size
from recurrent_instance_seg import RecurrentInstanceSeg
from recurrent_instance_seg.inference import InferenceSettings, StepSequence

from .base import Inputs, MethodAnalysis, Split

NODE = "MODEL.RECURRENT_INSTANCE_SEG"


class WholeSequence(NamedTuple):
    """All steps of one image, whatever their objectness, and the size of the output."""

    sequence: StepSequence
    output_size: tuple[int, int]


class RecurrentAdapter(MethodAdapter):
    """All steps are run once; settings say which of them count."""

    model: RecurrentInstanceSeg

    STOP, STEPS = f"{NODE}.STOP_THRESHOLD", f"{NODE}.MAX_STEPS"
    capacity_keys = (STEPS,)

    def knob_of(self, cfg: CfgNode) -> Knob:
        """Stop threshold."""
        return threshold_knob(cfg, self.STOP, "stop threshold (objectness)")

    def run(self, item: Mapping[str, Any]) -> WholeSequence:
        """The sequence of MAX_STEPS steps: no objectness is below 0."""
        never = replace(self.model.inference, stop_threshold=0.0)
        (sequence,) = self.model.run_steps([item], inference=never)
        return WholeSequence(sequence, wanted_size(item, sequence.masks.shape[-2:]))

    def predict(self, state: WholeSequence, setting: Setting) -> Instances:
        """Instances of the steps before the end that a stop threshold or a limit sets."""
        return self._instances(state, self._settings(setting))

    def claims(self, state: WholeSequence) -> Instances:
        """Masks as the steps give them."""
        return self._instances(state, replace(self._settings({}), overlap=""))

    def _settings(self, setting: Setting) -> InferenceSettings:
        inference = self.model.inference
        return replace(
            inference,
            stop_threshold=setting.get(self.STOP, inference.stop_threshold),
            max_steps=setting.get(self.STEPS, inference.max_steps),
            max_instances=limit_of(self.cfg, setting),
        )

    def _instances(self, state: WholeSequence, inference: InferenceSettings) -> Instances:
        sequence, size = state
        return self.model.make_instances(sequence, size, inference=inference).to("cpu")


def split(model: RecurrentInstanceSeg) -> Split:
    """The network to the masks of all steps at the size of its input, and what is made of them."""

    def finish(inputs: Inputs, sequences: "Sequence[StepSequence]") -> "list[dict[str, Instances]]":
        return [
            {
                "instances": model.make_instances(
                    sequence, wanted_size(item, sequence.masks.shape[-2:])
                )
            }
            for item, sequence in zip(inputs, sequences)
        ]

    return Split(model.run_steps, finish)


ANALYSIS = MethodAnalysis(
    draw_internals=draw_recurrent,
    shows="the sequence of steps, one object after the other, to the stop",
    split=split,
    adapter=RecurrentAdapter,
)
