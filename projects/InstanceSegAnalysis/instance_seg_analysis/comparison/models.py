"""The models of a comparison: those that are named, and the baselines that go with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from instance_seg_analysis.comparison.components import SemanticComponents
from instance_seg_analysis.methods import analysis_of
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import common_test_set, load_cfg, load_models, parse_model

CLASSICAL = "OtsuWatershed"
TRAINED, CLASSICAL_KIND, COMPONENTS = "trained", "classical", "components"


class ComparedModel(NamedTuple):
    """name: for tables; cfg: its config; model: in evaluation mode; kind: "trained", "classical" or
    "components", of which only the first takes part in how much results differ on an image."""

    name: str
    cfg: CfgNode
    model: nn.Module
    kind: str = TRAINED


def takes_tiles(compared: ComparedModel) -> bool:
    """Whether a model predicts large images in tiles, where ``TEST.TILE_SIZE`` is not 0."""
    return compared.kind != COMPONENTS


def build_models(
    names: Sequence[str],
    opts: Sequence[str] = (),
    *,
    dataset: Optional[str] = None,
    baselines: bool = True,
) -> "tuple[list[ComparedModel], str]":
    """Load the models of a comparison.

    Args:
        names (list[str]): as ``--model`` takes them; not empty.
        opts (list[str]): ``KEY VALUE`` pairs for all of them.
        dataset (str or None): None: the first of DATASETS.TEST, common to all.
        baselines (bool): add the classical baseline, unless it is among the models, and connected
            components of the semantic output of each model that has one.

    Returns:
        tuple: the models; the data set.

    Raises:
        UserError: no such model, weights that do not fit, or no common data set.
    """
    cfgs = load_models(names, opts)
    dataset = dataset or common_test_set(list(cfgs.values()))
    get_dataset_dicts(dataset)  # fills the metadata of some sets
    models = [
        ComparedModel(name, cfg, build_predictor(cfg), kind_of(cfg)) for name, cfg in cfgs.items()
    ]
    if not baselines:
        return models, dataset
    components = [components_of(model) for model in models]
    models += [model for model in components if model is not None]
    if not any(model.cfg.MODEL.META_ARCHITECTURE == CLASSICAL for model in models):
        folder = Path(parse_model(names[0]).config).parent
        cfg = classical_cfg(folder, models[0].cfg, dataset=dataset, opts=opts)
        classical = build_predictor(cfg)
        models.append(ComparedModel("Otsu + watershed", cfg, classical, CLASSICAL_KIND))
    return models, dataset


def kind_of(cfg: CfgNode) -> str:
    """Whether a method is trained or classical."""
    return TRAINED if analysis_of(cfg.MODEL.META_ARCHITECTURE).trained else CLASSICAL_KIND


def components_of(model: ComparedModel) -> Optional[ComparedModel]:
    """Connected components of a model's semantic output; None where it has none."""
    background = getattr(model.model, "num_classes", None)
    if background is None or not analysis_of(model.cfg.MODEL.META_ARCHITECTURE).semantic_output:
        return None
    cfg = model.cfg.clone()
    cfg.defrost()
    # A component's score only ranks it: all that is foreground counts.
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.0
    components = SemanticComponents(model.model, background)
    return ComparedModel(f"connected components of {model.name}", cfg, components, COMPONENTS)


def classical_cfg(folder: Path, cfg: CfgNode, *, dataset: str, opts: Sequence[str] = ()) -> CfgNode:
    """A config of the classical baseline for a data set.

    Args:
        folder (Path): of the configs; one of its ``classical*.yaml`` serves, if its test set is the
            data set or one whose name starts alike.
        cfg (CfgNode): of another model, from which the rest is taken otherwise.
        dataset (str): registered.
        opts (list[str]): ``KEY VALUE`` pairs.
    """
    for file in sorted(folder.glob("classical*.yaml")):
        fitting = load_cfg(str(file), opts)
        if fitting.DATASETS.TEST and dataset.startswith(fitting.DATASETS.TEST[0]):
            return fitting
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = CLASSICAL, ""
    cfg.MODEL.OTSU_WATERSHED.NUM_CLASSES = len(MetadataCatalog.get(dataset).thing_classes)
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.5
    return cfg
