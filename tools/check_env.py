#!/usr/bin/env python
"""Print versions, installed methods and backbones, the device, and what is missing with its fix.

Exit status 1 if something that is needed is missing.
"""

import importlib
import importlib.metadata
import platform
import sys
import warnings
from types import ModuleType

# module: (needed, what for, how to get it)
MODULES = {
    "torch": (True, "everything", "install it as pytorch.org says for your machine"),
    "torchvision": (True, "RoIAlign and NMS", "install the release that belongs to your torch"),
    "detectron2": (True, "everything", "run `make env`, or build it from its source"),
    "instance_seg_common": (True, "everything", "run `pip install --no-build-isolation -e .` here"),
    "cv2": (True, "pictures and synthetic data", "run `pip install opencv-python-headless`"),
    "pycocotools": (True, "masks and COCO AP", "run `pip install pycocotools`"),
    "scipy": (True, "matching", "run `pip install scipy`"),
    "pkg_resources": (False, "detectron2.model_zoo", "run `pip install 'setuptools<81'`"),
    "skimage": (False, "the classical baseline", "run `pip install scikit-image`"),
    "tifffile": (False, "TIFF images and labels", "run `pip install tifffile imagecodecs`"),
    "imagecodecs": (False, "16-bit colour PNG, JPEG 2000", "run `pip install imagecodecs`"),
    "rasterio": (False, "objects as GeoJSON", "run `pip install rasterio`"),
    "ray.data": (False, "prediction on a cluster", "run `pip install 'ray[data]'`"),
    "sklearn": (False, "other clusterings of embeddings", "run `pip install scikit-learn`"),
    "cityscapesscripts": (False, "the Cityscapes score", "run `pip install cityscapesscripts`"),
    "timm": (False, "backbones of timm", "run `pip install timm`"),
    "tensorboard": (False, "looking at curves and pictures", "run `pip install tensorboard`"),
    "onnxscript": (False, "export as ONNX", "run `pip install onnx onnxscript`"),
    "onnxruntime": (False, "exported models", "run `pip install onnxruntime`"),
    "pytest": (False, "`make test`", "run `pip install pytest`"),
    "ruff": (False, "`make test`", "run `pip install ruff`"),
}


def version(module: ModuleType) -> str:
    """Version of an imported module, from itself or its distribution."""
    own = getattr(module, "__version__", None)
    if own:
        return own
    # Python 3.9 cannot tell which distribution a module belongs to.
    distributions = getattr(importlib.metadata, "packages_distributions", dict)()
    names = distributions.get(module.__name__, [])
    return importlib.metadata.version(names[0]) if names else "installed"


def check(name: str, needed: bool, purpose: str, *, fix: str) -> bool:
    """Print one line on a module; True if a needed one does not import."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources announces its own end
            module = importlib.import_module(name)
    except Exception as error:  # a broken installation raises anything
        mark = "MISSING" if needed else "absent "
        print(f"  {mark} {name}: {error}. It is for {purpose}; {fix}.")
        return needed
    print(f"  ok      {name} {version(module)}")
    return False


def describe_devices() -> None:
    """Print what the models can run on."""
    import torch

    if torch.cuda.is_available():
        print(f"  device  {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    else:
        print(f"  device  CPU only, {torch.get_num_threads()} threads; the tools adapt.")


def describe_detectron2() -> None:
    """Print which Detectron2 it is and whether its compiled part loads."""
    import detectron2
    from detectron2.utils import events

    print(f"  using   {detectron2.__path__[0]}")
    if not hasattr(events, "has_event_storage"):
        print("  note    Detectron2 0.6, its last release: it needs numpy < 1.24 and Pillow < 10.")
    try:
        from detectron2 import _C  # noqa: F401
    except ImportError:
        print("  note    pure Python Detectron2: deformable convolution and rotated boxes are out.")


def describe_plugins() -> bool:
    """Print what installed packages announce; True if one of them does not import."""
    from instance_seg_common.config import BACKBONES, METHODS, announced
    from instance_seg_common.errors import UserError

    try:
        methods, backbones = sorted(announced(METHODS)), sorted(announced(BACKBONES))
    except UserError as error:
        print(f"  MISSING plugins: {error}")
        return True
    print(f"  methods GeneralizedRCNN (Detectron2), {', '.join(methods)}")
    print(f"  backbones {', '.join(['those of Detectron2', *backbones])}")
    return False


def main() -> int:
    """Check everything."""
    print(f"  Python  {platform.python_version()} on {platform.platform()}")
    unmet = [name for name, (*facts, fix) in MODULES.items() if check(name, *facts, fix=fix)]
    if "torch" not in unmet:
        describe_devices()
    if "detectron2" not in unmet:
        describe_detectron2()
    if not unmet and describe_plugins():
        unmet.append("plugins")
    print("Missing: " + ", ".join(unmet) + "." if unmet else "Nothing that is needed is missing.")
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())
