"""The models of a comparison."""

import pytest

from instance_seg_analysis.comparison import models
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError


def test_classical_config_of_the_data_set_or_a_plain_one(repository_root):
    folder = repository_root / "configs" / "Nuclei"
    cfg = load_cfg(str(folder / "mask_rcnn_R18.yaml"))
    fitting = models.classical_cfg(folder, cfg, dataset="dsb2018_val_upto20")
    assert fitting.DATASETS.TEST == ("dsb2018_val",)
    plain = models.classical_cfg(folder, cfg, dataset="synthetic_shapes_val")
    assert plain.MODEL.META_ARCHITECTURE == "OtsuWatershed" and plain.MODEL.WEIGHTS == ""
    assert plain.INPUT.MIN_SIZE_TEST == cfg.INPUT.MIN_SIZE_TEST


def test_one_data_set_for_all(repository_root):
    configs = [f"{repository_root}/configs/{name}.yaml" for name in (
        "Nuclei/classical", "Synthetic/classical_shapes"
    )]  # fmt: skip
    with pytest.raises(UserError, match="different data sets.*--dataset"):
        models.build_models(configs)
    (classical,), dataset = models.build_models(configs[1:])
    assert dataset == "synthetic_shapes_val" and classical.kind == "classical"
