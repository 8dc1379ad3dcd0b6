"""Config keys that the shared trainer, data and evaluation need beyond stock Detectron2."""

from detectron2.config import CfgNode


def add_common_config(cfg):
    """Register the shared keys on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    _add_defaults(
        cfg.DATASETS,
        REGISTER=[],  # own data sets, a list of mappings; see datasets/README.md
    )
    _add_defaults(
        cfg.INPUT,
        AUGMENTATIONS=[],  # [name, arguments] of detectron2.data.transforms, before crop and resize
    )
    _add_defaults(
        cfg.SOLVER,
        OPTIMIZER="SGD",  # SGD or AdamW
        BACKBONE_LR_FACTOR=1.0,  # learning rate of the backbone, as a factor of BASE_LR
        FULL_MODEL_CLIP_NORM=0.0,  # largest L2 norm of the whole model's gradient; 0 = no clipping
    )
    _add_defaults(
        cfg.TEST,
        BEST_METRIC="segm/AP",  # model_best.pth is chosen by it; "-dic/DiC" = lower is better
        PATIENCE=0,  # evaluations without a better value until training stops; 0 = never
        VALIDATION_LOSS_IMAGES=64,  # images of DATASETS.TEST[0] for the validation loss; 0 = none
        PICTURES=4,  # images of DATASETS.TEST[0] drawn into TensorBoard at each evaluation
        LABEL_MAP_SCORE_THRESHOLD=0.5,  # least score of an instance in a label map, 0 to 1
        LABEL_MAP_MIN_AREA=0,  # least area of an instance in a label map, pixels
        FOREGROUND_GIVEN=False,  # cut predictions to the foreground that the data set supplies
    )
    if "OTSU_WATERSHED" not in cfg.MODEL:
        cfg.MODEL.OTSU_WATERSHED = CfgNode()
    _add_defaults(
        cfg.MODEL.OTSU_WATERSHED,
        NUM_CLASSES=1,  # classes of the data set; every object is given class 0
        SMOOTHING=0.5,  # standard deviation of the Gaussian before the threshold, pixels; 0 = none
        MIN_DISTANCE=6,  # least distance between the centres of two objects, pixels
        MIN_AREA=20,  # objects with fewer pixels are dropped
        SPLIT=True,  # watershed; False = plain connected components
    )


def _add_defaults(node, **defaults):
    for key, value in defaults.items():
        if key not in node:
            node[key] = value
