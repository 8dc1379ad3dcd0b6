"""Checkpoints survive a kill, and what does not fit is said."""

from pathlib import Path

import pytest
import torch

from instance_seg_common.engine.checkpoint import AtomicCheckpointer, load_weights
from instance_seg_common.errors import UserError


def model(outputs=2):
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, outputs))


def test_save_leaves_no_partial_file_and_tags_the_checkpoint(tmp_path):
    AtomicCheckpointer(model(), str(tmp_path)).save("model_0000001")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_a_save_that_dies_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    checkpointer = AtomicCheckpointer(model(), str(tmp_path))
    checkpointer.save("model_0000001")
    before = (tmp_path / "model_0000001.pth").read_bytes()

    def die(data, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0000001")
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file().endswith("model_0000001.pth")


def test_weights_alone_do_not_move_the_tag(tmp_path):
    checkpointer = AtomicCheckpointer(model(), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save_weights("model_best")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    other = model()
    load_weights(other, str(tmp_path / "model_best.pth"))
    assert torch.equal(other[0].weight, checkpointer.model[0].weight)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_truncated_file_is_named_with_the_other_checkpoints(tmp_path, keep):
    checkpointer = AtomicCheckpointer(model(), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_0000002")
    broken = tmp_path / "model_0000002.pth"
    broken.write_bytes(broken.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model_0000002\.pth.*model_0000001\.pth"):
        checkpointer.resume_or_load("", resume=True)


@pytest.mark.parametrize("path", ["", "nowhere.pth"])
def test_absent_weights(path):
    with pytest.raises(UserError):
        load_weights(model(), path)


def test_another_class_count_is_an_error_at_inference(tmp_path):
    AtomicCheckpointer(model(outputs=5), str(tmp_path)).save_weights("five")
    with pytest.raises(UserError, match=r"1\.weight: \(5, 4\) in the file, \(2, 4\) in the model"):
        load_weights(model(outputs=2), str(tmp_path / "five.pth"))


def test_code_in_a_weights_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"model": {"weight": Evil()}}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil"):
        load_weights(model(), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "touched").exists()


def test_half_precision_weights_load(tmp_path):
    source = model()
    halves = {name: value.half() for name, value in source.state_dict().items()}
    torch.save({"model": halves}, tmp_path / "half.pth")
    target = model()
    load_weights(target, str(tmp_path / "half.pth"))
    assert target[0].weight.dtype == torch.float32
    assert torch.allclose(target[0].weight, source[0].weight, atol=1e-3)
