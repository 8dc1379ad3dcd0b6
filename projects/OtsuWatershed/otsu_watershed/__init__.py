"""The classical baseline as a plugin: importing registers ``OtsuWatershed``."""

from .arch import OtsuWatershed
from .config import add_otsu_watershed_config

__all__ = ["OtsuWatershed", "add_otsu_watershed_config"]
