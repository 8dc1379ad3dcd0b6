"""Versions of installed packages."""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Optional


def versions_of(packages: "Iterable[str]") -> "dict[str, Optional[str]]":
    """By the name of the distribution or module; None where it is not installed.

    Args:
        packages: names of distributions.
    """
    found: dict[str, Optional[str]] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # Builds of Detectron2 are distributed under names of their own.
            found[package] = getattr(sys.modules.get(package), "__version__", None)
    return found
