"""Networks of trained models as files for other runtimes, and models that run by such files.

A method announces the parts of its network by an entry point of the group ``instance_seg.exports``:
its name is the meta-architecture, its value a ``meta_arch.NetworkExport``. What comes before and
after the network stays with the model itself, which runs with the exported parts in place of its
own.
"""

from .read import Export, cached_export, is_export
from .write import export_model

__all__ = ["Export", "cached_export", "export_model", "is_export"]
