"""Installs the packages of PROJECTS and nothing else.

torch, Detectron2 and cv2 are the user's choice and are neither required nor pinned here;
`python tools/check_env.py` says what is missing and how to get it.
"""

from pathlib import Path

from setuptools import setup

# package -> folder; each way to segment instances adds a line.
PROJECTS = {
    "instance_seg_common": "projects/InstanceSegCommon/instance_seg_common",
    "embedding_instance_seg": "projects/EmbeddingInstanceSeg/embedding_instance_seg",
    "recurrent_instance_seg": "projects/RecurrentInstanceSeg/recurrent_instance_seg",
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
    version="0.1.0",
    description="Instance segmentation three ways on Detectron2: proposals, recurrence, embeddings",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=sorted(package_dirs()),
    package_dir=package_dirs(),
    package_data={
        "instance_seg_common.evaluation": ["*.csv"],
        "instance_seg_common.visualization": ["templates/*.j2"],
    },
)
