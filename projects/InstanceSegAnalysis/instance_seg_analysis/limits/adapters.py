"""A way with its knob: the network runs once an image, settings are tried on what it gave.

A setting is a dict {config key: value}; what is not in it is as in the config. The key
``SUPPRESSION`` names one of a way's rules against duplicates.

Shape shorthand in this module:
    R: proposals   C: classes   N: detections   H, W: the output size
"""

import contextlib
from dataclasses import replace
from typing import NamedTuple

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image

from instance_seg_analysis.internals.proposals import NO_NMS
from instance_seg_analysis.limits.neighbours import encoded, encoded_iou
from instance_seg_analysis.limits.nms import among_equals, box_iou, greedy_nms, soft_nms
from instance_seg_analysis.methods.base import analysis_of

SUPPRESSION = "suppression"
DETECTIONS = "TEST.DETECTIONS_PER_IMAGE"
# Of a threshold that is a fraction, and of a knob in units of its own: times the config's value.
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 10))
FACTORS = tuple(round(0.2 * step, 1) for step in range(1, 10))


class Knob(NamedTuple):
    """key: of the config; name: for people; default: the config's value; values: what is tried."""

    key: str
    name: str
    default: float
    values: tuple


def value_of(cfg, key):
    """The value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def threshold_knob(cfg, key, name):
    """A knob between 0 and 1."""
    return Knob(key, name, value_of(cfg, key), SWEEP)


class PlainWay:
    """A model of which nothing can be set after the network: it is run, and that is all.

    Args:
        cfg (CfgNode): of the model.
        model (nn.Module): in evaluation mode.

    Attributes:
        knob (Knob or None)
        capacities (dict[str, int]): config key -> how many it allows; without those set to "all".
        suppressions (tuple[str]): rules against duplicates, the config's own first.
        note (str): what is left out, as a sentence.
    """

    knob = None
    suppressions = ("",)
    capacity_keys = ()

    def __init__(self, cfg, model):
        self.cfg = cfg
        self.model = model
        self.knob = self.knob_of(cfg)
        self.note = "" if self.knob else f"{cfg.MODEL.META_ARCHITECTURE} has no knob to sweep."
        values = {key: value_of(cfg, key) for key in self.capacity_keys}
        self.capacities = {key: value for key, value in values.items() if value >= 0}

    def knob_of(self, cfg):
        """The way's knob; None without one."""

    def run(self, item):
        """Everything before the settings.

        Args:
            item (dict): one model input.

        Returns:
            object: for ``predict``.
        """
        return self.model([item])[0]["instances"].to("cpu")

    def predict(self, state, setting):
        """What the model would return with other values in its config.

        Args:
            state (object): of ``run``.
            setting (dict): {config key: value}.

        Returns:
            Instances: on the CPU, at the size of the output.
        """
        return state

    def claims(self, state):
        """Instances with the config's values, before a rule gives each pixel to one of them."""
        return self.predict(state, {})


class MaskRCNNWay(PlainWay):
    """Stock Mask R-CNN: boxes and masks of all detections are computed before NMS."""

    NMS = "MODEL.ROI_HEADS.NMS_THRESH_TEST"
    PROPOSALS = "MODEL.RPN.POST_NMS_TOPK_TEST"
    # The last one is what any rule could keep: what it misses, NMS has not lost.
    suppressions = ("box NMS", "mask NMS", "soft-NMS", "no NMS")
    capacity_keys = (PROPOSALS,)

    def knob_of(self, cfg):
        """NMS threshold."""
        return threshold_knob(cfg, self.NMS, "NMS threshold (box IoU)")

    def run(self, item):
        """Box head's output for all proposals, masks of all detections above the score threshold.

        Returns:
            dict: ``boxes`` (R, 4 or 4 C), ``scores`` (R, C + 1), ``size`` of the network input,
            ``candidates`` Instances at the output size with ``key`` (N,), row * C + class.
        """
        heads = self.model.roi_heads
        images = self.model.preprocess_image([item])
        features = self.model.backbone(images.tensor)
        proposals, _ = self.model.proposal_generator(images, features, None)
        levels = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(levels, [x.proposal_boxes for x in proposals])
        predictions = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_predictor.predict_boxes(predictions, proposals)[0]
        scores = heads.box_predictor.predict_probs(predictions, proposals)[0]
        state = {"boxes": boxes, "scores": scores, "size": images.image_sizes[0]}
        found, keys = self._detect(state, len(boxes), NO_NMS, -1)
        found.key = keys
        (found,) = heads.forward_with_given_boxes(features, [found])
        height, width = item.get("height", state["size"][0]), item.get("width", state["size"][1])
        state["candidates"] = detector_postprocess(found, height, width).to("cpu")
        return state

    def _detect(self, state, proposals, threshold, limit):
        """Detectron2's own inference on the first proposals: Instances, (N,) their keys."""
        boxes, scores = state["boxes"][:proposals], state["scores"][:proposals]
        least = self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        found, rows = fast_rcnn_inference_single_image(
            boxes, scores, state["size"], least, threshold, limit
        )
        return found, rows * (scores.shape[1] - 1) + found.pred_classes

    def predict(self, state, setting):
        """Detections with another NMS threshold, rule, or number of proposals or detections."""
        threshold = setting.get(self.NMS, value_of(self.cfg, self.NMS))
        limit = setting.get(DETECTIONS, value_of(self.cfg, DETECTIONS))
        rule = setting.get(SUPPRESSION, "box NMS")
        if rule != "box NMS":
            return self._without_box_nms(state, rule, threshold, limit)
        # Proposals come best first: fewer of them are the first of them.
        proposals = setting.get(self.PROPOSALS, len(state["boxes"]))
        _, keys = self._detect(state, proposals, threshold, limit)
        return state["candidates"][torch.isin(state["candidates"].key, keys.cpu())]

    def _without_box_nms(self, state, rule, threshold, limit):
        """All candidates, or the best of them after mask NMS or soft-NMS, best first."""
        found = state["candidates"]
        if rule == "no NMS":
            return found
        classes, scores = found.pred_classes.numpy(), found.scores.numpy()
        if rule == "mask NMS":
            masks = encoded(found.pred_masks.numpy())
            iou = encoded_iou(masks, masks)
            kept = greedy_nms(among_equals(iou, classes), scores, threshold)
            return found[torch.from_numpy(kept[: limit if limit >= 0 else None])]
        iou = among_equals(box_iou(found.pred_boxes.tensor), classes)
        decayed = torch.from_numpy(soft_nms(iou, scores)).float()
        order = torch.argsort(decayed, descending=True, stable=True)
        result = found[order]
        result.scores = decayed[order]
        result = result[result.scores >= self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST]
        return result[: limit if limit >= 0 else None]


class EmbeddingWay(PlainWay):
    """EmbeddingInstanceSeg: the maps are computed once, then clustered for each setting."""

    NODE = "MODEL.EMBEDDING_INSTANCE_SEG"
    capacity_keys = (DETECTIONS,)

    def knob_of(self, cfg):
        """Bandwidth, or the seed threshold where the network says the bandwidth."""
        node = value_of(cfg, self.NODE)
        if node.CLUSTERING == "seeded":
            return threshold_knob(cfg, f"{self.NODE}.SEED_THRESHOLD", "seed threshold")
        if node.CLUSTERING == "hdbscan":
            return None
        values = tuple(round(node.BANDWIDTH * factor, 6) for factor in FACTORS)
        return Knob(f"{self.NODE}.BANDWIDTH", "bandwidth", node.BANDWIDTH, values)

    def run(self, item):
        """The item with its Maps."""
        (maps,) = self.model.image_maps([item])
        return {"item": item, "maps": maps, "groups": {}}

    def predict(self, state, setting):
        """Instances with another bandwidth or with fewer of them."""
        knob = setting.get(self.knob.key, self.knob.default) if self.knob else None
        if knob not in state["groups"]:
            name = self.knob.key.rsplit(".", 1)[-1].lower() if self.knob else ""
            inference = replace(self.model.inference, **({name: knob} if name else {}))
            state["groups"][knob] = self.model.group(state["maps"], inference=inference)
        limit = setting.get(DETECTIONS, value_of(self.cfg, DETECTIONS))
        inference = replace(self.model.inference, max_instances=limit if limit >= 0 else None)
        grouping, item = state["groups"][knob], state["item"]
        height, width = grouping.labels.shape
        size = (item.get("height", height), item.get("width", width))
        return self.model.make_instances(grouping, size, inference=inference).to("cpu")


class RecurrentWay(PlainWay):
    """RecurrentInstanceSeg: all steps are run, whatever the objectness; settings cut them."""

    NODE = "MODEL.RECURRENT_INSTANCE_SEG"
    STOP, STEPS = f"{NODE}.STOP_THRESHOLD", f"{NODE}.MAX_STEPS"
    capacity_keys = (STEPS,)

    def knob_of(self, cfg):
        """Stop threshold."""
        return threshold_knob(cfg, self.STOP, "stop threshold (objectness)")

    def run(self, item):
        """The item with the sequence of MAX_STEPS steps: no objectness is below 0."""
        never = {**self.model.inference, "stop_threshold": 0.0}
        with changed(self.model, {"inference": never}):
            return {"item": item, "sequence": self.model.internals([item])[0]}

    def predict(self, state, setting, overlap=None):
        """Instances of the steps before the end that a stop threshold or a limit sets."""
        sequence, options = state["sequence"], dict(self.model.inference)
        threshold = setting.get(self.STOP, self.knob.default)
        going_on = sequence["objectness"] >= threshold
        count = min(int(going_on.long().cumprod(0).sum()), setting.get(self.STEPS, len(going_on)))
        limit = setting.get(DETECTIONS, value_of(self.cfg, DETECTIONS))
        options["max_instances"] = limit if limit >= 0 else None
        options["overlap"] = options["overlap"] if overlap is None else overlap
        with changed(self.model, {"inference": options}):
            cut = {**sequence, "count": torch.tensor(count)}
            return self.model._instances(cut, state["item"]).to("cpu")

    def claims(self, state):
        """Masks as the steps give them."""
        return self.predict(state, {}, overlap="")


@contextlib.contextmanager
def changed(target, attributes):
    """Attributes of an object that have other values for a while."""
    before = {name: getattr(target, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


def adapt(cfg, model):
    """The way of a config.

    Args:
        cfg (CfgNode): its META_ARCHITECTURE decides.
        model (nn.Module): in evaluation mode.

    Returns:
        PlainWay
    """
    kind = analysis_of(cfg.MODEL.META_ARCHITECTURE).adapter or PlainWay
    if kind is MaskRCNNWay and type(model.roi_heads) is not StandardROIHeads:
        kind = PlainWay
    return kind(cfg, model)
