"""Installs the packages of PROJECTS and nothing else.

torch, Detectron2 and cv2 are the user's choice and are neither required nor pinned here;
`python tools/check_env.py` says what is missing and how to get it.
"""

from pathlib import Path

from setuptools import setup

# package -> folder; each method and each family of backbones adds a line.
PROJECTS = {
    "instance_seg_common": "projects/InstanceSegCommon/instance_seg_common",
    "otsu_watershed": "projects/OtsuWatershed/otsu_watershed",
    "embedding_instance_seg": "projects/EmbeddingInstanceSeg/embedding_instance_seg",
    "recurrent_instance_seg": "projects/RecurrentInstanceSeg/recurrent_instance_seg",
    "light_backbone": "projects/LightBackbone/light_backbone",
    "timm_backbone": "projects/TimmBackbone/timm_backbone",
    "instance_seg_analysis": "projects/InstanceSegAnalysis/instance_seg_analysis",
}
# How packages announce themselves, here as anywhere: projects/README.md says what each group is.
ENTRY_POINTS = {
    # meta-architecture = the function that adds its config keys
    "instance_seg.methods": [
        "OtsuWatershed = otsu_watershed:add_otsu_watershed_config",
        "EmbeddingInstanceSeg = embedding_instance_seg:add_embedding_instance_seg_config",
        "RecurrentInstanceSeg = recurrent_instance_seg:add_recurrent_instance_seg_config",
    ],
    # any name = the function that adds config keys; importing it registers backbones
    "instance_seg.backbones": [
        "LightBackbone = light_backbone:add_light_backbone_config",
        "TimmBackbone = timm_backbone:add_timm_backbone_config",
    ],
    # any name = a dict of the keys that its config had in earlier versions
    "instance_seg.removed_keys": [
        "EmbeddingInstanceSeg = embedding_instance_seg.config:REMOVED_KEYS",
        "RecurrentInstanceSeg = recurrent_instance_seg.config:REMOVED_KEYS",
    ],
    # meta-architecture = a MethodAnalysis: its drawer of internals, its knob, its network's parts
    "instance_seg.analysis": [
        "GeneralizedRCNN = instance_seg_analysis.methods.mask_rcnn:ANALYSIS",
        "OtsuWatershed = instance_seg_analysis.methods.otsu_watershed:ANALYSIS",
        "EmbeddingInstanceSeg = instance_seg_analysis.methods.embedding:ANALYSIS",
        "RecurrentInstanceSeg = instance_seg_analysis.methods.recurrent:ANALYSIS",
    ],
    # meta-architecture = a NetworkExport: the parts of its network for other runtimes
    "instance_seg.exports": [
        "GeneralizedRCNN = instance_seg_analysis.methods.mask_rcnn_export:EXPORT",
        "EmbeddingInstanceSeg = embedding_instance_seg.exported:EXPORT",
        "RecurrentInstanceSeg = recurrent_instance_seg.exported:EXPORT",
    ],
}


def package_dirs():
    """{dotted package name: folder} of every package and sub-package of PROJECTS."""
    root = Path(__file__).parent.resolve()
    found = {}
    for package, folder in PROJECTS.items():
        for init in sorted((root / folder).rglob("__init__.py")):
            parts = init.parent.relative_to(root / folder).parts
            found[".".join((package, *parts))] = init.parent.relative_to(root).as_posix()
    return found


setup(
    name="instance-seg-three-ways",
    version="0.2.0",
    description="Instance segmentation three ways on Detectron2: proposals, recurrence, embeddings",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=sorted(package_dirs()),
    package_dir=package_dirs(),
    package_data={
        "instance_seg_common.evaluation": ["*.csv"],
        "instance_seg_analysis.comparison": ["templates/*.j2"],
    },
    entry_points=ENTRY_POINTS,
)
