"""tools/check_env.py: what installed packages announce."""

import check_env

from instance_seg_common import config
from instance_seg_common.errors import UserError


def test_installed_methods_and_backbones_are_listed(capsys):
    assert check_env.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  backbones those of Detectron2, LightBackbone, TimmBackbone" in lines
    (line,) = [x for x in lines if x.startswith("  methods")]
    for name in (
        "GeneralizedRCNN",
        "EmbeddingInstanceSeg",
        "OtsuWatershed",
        "RecurrentInstanceSeg",
    ):
        assert name in line


def test_a_method_that_does_not_import_is_said(monkeypatch, capsys):
    def broken(group):
        raise UserError("The package of Mine cannot be imported.")

    monkeypatch.setattr(config, "announced", broken)
    assert check_env.main() == 1
    out = capsys.readouterr().out
    assert "The package of Mine cannot be imported." in out and "Missing: plugins." in out


def test_a_python_that_knows_no_distributions(monkeypatch):
    monkeypatch.delattr(check_env.importlib.metadata, "packages_distributions", raising=False)
    assert check_env.version(config) == "installed"
