"""The meta-architecture: losses, predictions, public steps, and every odd batch."""

import math
from dataclasses import replace

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import detection_utils
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from tiny_embedding import item, settings_of

from embedding_instance_seg import add_embedding_instance_seg_config
from embedding_instance_seg.grouping import Grouping
from instance_seg_analysis.oracle import predict_rows
from instance_seg_common.errors import UserError
from instance_seg_common.masks import id_maps_from_inputs
from instance_seg_common.meta_arch import noted_limits

KINDS = {
    "plain": {},
    "coordinates": {"coordinates": True},
    "semi-convolutional": {"position_unit": 16.0},
    "learned bandwidth": {
        "position_unit": 16.0,
        "seeds": True,
        "inference": {"clustering": "seeded"},
    },
    "stride 4": {"stride": 4},
    "stride 1": {"stride": 1},
    "class-agnostic": {"inference": {"class_agnostic": True}},
}
BATCHES = {
    "two sizes": lambda: [item(), item(37, 25, [(4, 4, 20, 20)])],
    "one image": lambda: [item(33, 17)],
    "one without instances": lambda: [item(), item(boxes=())],
    "none with instances": lambda: [item(boxes=()), item(20, 20, boxes=())],
    "one-pixel instances": lambda: [item(boxes=[(3, 3, 4, 4), (8, 8, 9, 9)])],
    "one pixel in all": lambda: [item(1, 1, boxes=[(0, 0, 1, 1)])],
    "an instance outside": lambda: [item(boxes=[(2, 3, 12, 14), (0, 0, 0, 0)])],
    "all ignored": lambda: [item(sem_seg=torch.full((30, 44), 255))],
}


def targets(model, inputs):
    """Instance ids and class ids of the batch as the network sees it."""
    _, images = model.network(inputs)
    return id_maps_from_inputs(inputs, images.tensor.shape[-2:])[:2]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_parameter_gets_a_finite_gradient_on_every_batch(build_tiny, kind, batch):
    model = build_tiny(**kind)
    losses = model(batch())
    assert all(loss.dim() == 0 and loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_predictions_keep_the_contract_on_every_batch(build_tiny, kind, batch):
    model = build_tiny(**kind).eval()
    inputs = batch()
    inputs[0].update(height=50, width=60)
    outputs = model(inputs)
    assert len(outputs) == len(inputs)
    for x, output in zip(inputs, outputs):
        size = (x.get("height", x["image"].shape[1]), x.get("width", x["image"].shape[2]))
        instances = output["instances"]
        assert instances.image_size == size
        assert instances.pred_masks.dtype == torch.bool
        assert instances.pred_masks.shape == (len(instances), *size)
        assert instances.pred_masks.flatten(1).any(dim=1).all()
        assert (instances.pred_masks.sum(dim=0) <= 1).all()
        boxes = BitMasks(instances.pred_masks).get_bounding_boxes().tensor
        assert torch.equal(instances.pred_boxes.tensor, boxes)
        assert ((instances.scores >= 0) & (instances.scores <= 1)).all()
        assert (instances.scores.diff() <= 0).all()
        assert ((instances.pred_classes >= 0) & (instances.pred_classes < 2)).all()


def test_padding_changes_nothing_but_what_the_convolutions_see(build_tiny):
    """An image's targets do not depend on the size of the others of its batch."""
    model = build_tiny()
    small, large = item(24, 24, [(2, 3, 12, 14)]), item(64, 64, boxes=())
    ids, classes = targets(model, [small, large])
    assert (ids[0, 24:] == -1).all()
    assert (ids[0, :, 24:] == -1).all()
    assert (ids[1] == 0).all()
    assert set(classes[0].unique().tolist()) == {-1, 0}


def test_four_hundred_instances(build_tiny):
    boxes = [(y, x, y + 2, x + 2) for y in range(0, 60, 3) for x in range(0, 60, 3)]
    inputs = [item(60, 60)]
    masks = torch.zeros(400, 60, 60, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = True
    instances = Instances((60, 60))
    instances.gt_masks, instances.gt_classes = BitMasks(masks), torch.zeros(400).long()
    inputs[0]["instances"] = instances
    for kind in ("plain", "learned bandwidth"):
        model = build_tiny(**KINDS[kind])
        model.inference = replace(model.inference, max_instances=400)
        sum(model(inputs).values()).backward()
        oracle = predict_rows(model.eval(), inputs[0])[-1]
        # Few of an untrained network's centres coincide.
        assert 360 <= len(oracle) <= 400


def perfect(model, inputs):
    """Replace the network by one that knows the truth: instance k is at 10 k in the embedding."""
    original = model.network
    ids, classes = targets(model, inputs)
    semantic = torch.where(ids > 0, classes, torch.full_like(classes, model.num_classes))

    def network(batched_inputs):
        outputs, images = original(batched_inputs)
        cells = ids[:, 1::2, 1::2].clamp(min=0)
        outputs["semantic"] = (
            20
            * torch.nn.functional.one_hot(
                semantic[:, 1::2, 1::2].clamp(min=0), model.num_classes + 1
            )
            .permute(0, 3, 1, 2)
            .float()
        )
        outputs["embedding"] = 10.0 * cells[:, None].float().expand_as(outputs["embedding"])
        return outputs, images

    model.network = network
    return model


def test_a_perfect_network_gives_the_ground_truth(build_tiny):
    inputs = [item(), item(38, 26, [(4, 4, 20, 20)], (1,))]
    model = perfect(build_tiny(), inputs).eval()
    for x, output in zip(inputs, model(inputs)):
        instances, truth = output["instances"], x["instances"]
        assert len(instances) == len(truth)
        order = torch.argsort(instances.pred_classes)
        assert torch.equal(instances.pred_classes[order], truth.gt_classes)
        found, wanted = instances.pred_masks[order], truth.gt_masks.tensor
        iou = (found & wanted).sum((1, 2)) / (found | wanted).sum((1, 2))
        assert (iou > 0.85).all()  # boundaries are as fine as the grid


def test_oracles_give_what_is_known(build_tiny):
    inputs = [item()]
    model = build_tiny().eval()
    wanted = inputs[0]["instances"].gt_masks.tensor.any(dim=0)
    *_, semantics, both = predict_rows(model, inputs[0])
    for instances in (semantics, both):
        assert torch.equal(instances.pred_masks.any(dim=0), wanted)
    assert sorted(both.pred_classes.tolist()) == [0, 1]
    # With one object of each class, true classes and true centres are the ground truth.
    order = torch.argsort(both.pred_classes)
    assert torch.equal(both.pred_masks[order], inputs[0]["instances"].gt_masks.tensor)


def test_best_instances_are_kept(build_tiny):
    inputs = [item(60, 60)]
    many = build_tiny(inference={"max_instances": 1000}).eval()(inputs)[0]["instances"]
    few = build_tiny(inference={"max_instances": 3}).eval()(inputs)[0]["instances"]
    assert len(many) > 3
    assert torch.equal(few.scores, many.scores[:3])


def test_internals(build_tiny):
    inputs = [item(), item(37, 25, [(4, 4, 20, 20)])]
    plain = build_tiny().eval().internals(inputs)
    learned = build_tiny(**KINDS["learned bandwidth"]).eval().internals(inputs)
    for x, one, other in zip(inputs, plain, learned):
        size = x["image"].shape[1:]
        assert one["embedding"].shape == (4, *size)
        for name in ("semantic", "foreground", "clusters"):
            assert one[name].shape == size
        assert one["centers"].shape == (int(one["clusters"].max()), 4)
        assert "seeds" not in one
        assert other["seeds"].shape == other["bandwidth"].shape == size


def test_monitoring_reaches_the_storage_in_training_only(build_tiny):
    model = build_tiny()
    with EventStorage() as storage:
        model([item()])
        found = set(storage.histories())
    assert storage.latest()["embedding/num_instances"][0] == 2
    names = {"num_clusters", "num_instances", "distance_within", "distance_between"}
    assert found == {f"embedding/{name}" for name in names}
    with EventStorage() as storage, torch.no_grad():
        model([item()])
        assert not storage.histories()
    with EventStorage(start_iter=7) as storage:
        model([item()])
        assert not storage.histories()


def test_a_class_too_many_is_a_sentence(build_tiny):
    with pytest.raises(ValueError, match="class 1 but .*NUM_CLASSES is 1"):
        build_tiny(num_classes=1)([item()])


def test_missing_masks_are_a_sentence(build_tiny):
    x = item()
    x["instances"].remove("gt_masks")
    with pytest.raises(ValueError, match="MODEL.MASK_ON"):
        build_tiny()([x])


def cfg_of(**changes):
    cfg = get_cfg()
    add_embedding_instance_seg_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "EmbeddingInstanceSeg"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.DEVICE = "cpu"
    for key, value in changes.items():
        cfg.MODEL.EMBEDDING_INSTANCE_SEG[key] = value
    return cfg


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"CLUSTERING": "kmeans"}, "CLUSTERING has 'kmeans'"),
        (
            {"CLUSTERING": "sklearn_mean_shift"},
            "CLUSTERING has .*knows mean_shift, hdbscan, seeded",
        ),
        ({"SCORE": ["size"]}, "SCORE has 'size'"),
        ({"SCORE": ["seed"]}, "SCORE is .*CLUSTERING seeded"),
        ({"OUTPUT_STRIDE": 3}, "OUTPUT_STRIDE is 3"),
        ({"IN_FEATURES": ["p2", "res9"]}, "IN_FEATURES is .*res9.*p2, p3, p4, p5, p6"),
        ({"EMBEDDING_DIM": 1, "SEMI_CONVOLUTIONAL": True}, "EMBEDDING_DIM is 1"),
        ({"POSITION_UNIT": 0.0}, "POSITION_UNIT is 0"),
        ({"BANDWIDTH": -1.0}, "BANDWIDTH is -1"),
        ({"CHANNELS": 48}, "CHANNELS is 48; NORM GN needs a multiple of 32"),
        ({"HEAD_CHANNELS": 48}, "HEAD_CHANNELS is 48; NORM GN needs a multiple of 32"),
        ({"OUTPUT_STRIDE": 1}, "HEAD_CHANNELS is 32; NORM GN needs a multiple of 64"),
    ],
)
def test_config_mistakes_are_sentences(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        build_model(cfg_of(**changes))


def test_in_features_in_any_order_and_not_all_of_them():
    model = build_model(cfg_of(IN_FEATURES=["p4", "p2"], REACH=0.0, NUM_CLASSES=2))
    assert model.in_features == ["p2", "p4"]
    assert model.inference.reach == math.inf
    sum(model([item()]).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("limit", [2, -1])
def test_a_limit_on_instances_that_binds_is_noted(limit):
    cfg = cfg_of()
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    labels = torch.arange(16).view(4, 4) // 4  # three instances and the background
    grouping = Grouping(labels, torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.rand(3))
    with noted_limits() as noted:
        instances = build_model(cfg).make_instances(grouping, (4, 4))
    assert len(instances) == (2 if limit > 0 else 3)
    assert noted == ({("TEST.DETECTIONS_PER_IMAGE", 2)} if limit > 0 else set())
    best = grouping.scores.sort(descending=True).values
    assert torch.equal(instances.scores, best[: len(instances)])


def test_no_limit_on_instances():
    cfg = cfg_of()
    cfg.TEST.DETECTIONS_PER_IMAGE = -1
    assert build_model(cfg).inference.max_instances is None


def test_overlapping_truth_from_the_stock_mapper(build_tiny):
    annotations = [
        {"bbox": [2, 2, 20, 20], "bbox_mode": 1, "category_id": 0,
         "segmentation": [[2, 2, 22, 2, 22, 22, 2, 22]]},
        {"bbox": [8, 8, 4, 4], "bbox_mode": 1, "category_id": 1,
         "segmentation": [[8, 8, 12, 8, 12, 12, 8, 12]]},
    ]  # fmt: skip
    x = item()
    x["instances"] = detection_utils.annotations_to_instances(annotations, (30, 44), "polygon")
    model = build_tiny()
    _, classes = targets(model, [x])
    assert int(classes[0, 10, 10]) == 1
    assert int(classes[0, 4, 4]) == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_bf16_autocast_trains(build_tiny, kind):
    model = build_tiny(**kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([item()])
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()


def test_predictions_do_not_depend_on_the_random_state(build_tiny):
    model = build_tiny().eval()
    first = model([item()])[0]["instances"]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second = model([item()])[0]["instances"]
    assert torch.equal(first.pred_masks, second.pred_masks)
    assert torch.equal(torch.get_rng_state(), state)


def test_settings_refuse_unknown_names():
    with pytest.raises(ValueError, match="knows mean_shift"):
        settings_of(clustering="dbscan")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_public_steps_are_the_forward(build_tiny, kind):
    model = build_tiny(**kind).eval()
    inputs = [item(height=60, width=88), item(37, 25, [(4, 4, 20, 20)])]
    wanted = model(inputs)
    for maps, size, one in zip(model.image_maps(inputs), [(60, 88), (37, 25)], wanted):
        instances = model.make_instances(model.group(maps), size)
        assert torch.equal(instances.pred_masks, one["instances"].pred_masks)
        assert torch.equal(instances.scores, one["instances"].scores)


@pytest.mark.parametrize(
    "changes",
    [
        {"BANDWIDTH": 3.0},
        {"MIN_CLUSTER_SIZE": 30, "REACH": 1.5},
        {"SCORE": [], "CLASS_AGNOSTIC": True},
        {"MIN_AREA": 40},
    ],
    ids=str,
)
def test_other_settings_are_those_of_a_model_that_is_configured_with_them(changes):
    torch.manual_seed(0)
    model = build_model(cfg_of(NUM_CLASSES=2)).eval()
    other = build_model(cfg_of(NUM_CLASSES=2, **changes)).eval()
    other.load_state_dict(model.state_dict())
    settings = {key.lower(): value for key, value in changes.items()}
    if "score" in settings:
        settings["score"] = tuple(settings["score"])
    inference = replace(model.inference, **settings)
    assert inference == other.inference != model.inference
    (maps,) = model.image_maps([item()])
    grouping = model.group(maps, inference=inference)
    instances = model.make_instances(grouping, (30, 44), inference=inference)
    (wanted,) = other([item()])
    assert len(instances) > 0
    assert torch.equal(instances.pred_masks, wanted["instances"].pred_masks)
    assert torch.equal(instances.scores, wanted["instances"].scores)


def test_names_of_the_parameters_are_those_of_published_weights(repository_root):
    """What was saved by earlier versions loads: no parameter is renamed."""
    for name, clustering in (("sticks", "mean_shift"), ("dsb2018", "seeded")):
        file = repository_root / "weights" / f"embedding_R18_{name}.pth"
        saved = set(torch.load(file, map_location="cpu", weights_only=True)["model"])
        changes = {"CLUSTERING": clustering, "SEMI_CONVOLUTIONAL": True, "NORM": "BN"}
        cfg = cfg_of(NUM_CLASSES=1, **changes)
        names = {key for key in build_model(cfg).state_dict() if key.startswith("head.")}
        assert names == {key for key in saved if key.startswith("head.")}
