"""Checkpoints survive a kill, and what does not fit is said."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg

from instance_seg_common.engine.checkpoint import AtomicCheckpointer, cfg_to_resume, load_weights
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


def test_a_run_that_goes_on_has_its_last_checkpoint_for_weights(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(tmp_path), "start.pth"
    cfg.freeze()
    assert cfg_to_resume(cfg) is cfg  # nothing to go on from
    AtomicCheckpointer(model(), str(tmp_path)).save("model_0000001")
    assert str(tmp_path / "model_0000001.pth") == cfg_to_resume(cfg).MODEL.WEIGHTS
    assert cfg.MODEL.WEIGHTS == "start.pth"


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


class Colours(torch.nn.Module):
    """A first convolution, one that reads its result, and a head, as far as loading sees."""

    def __init__(self, channels=3, classes=2):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(channels, 1, 1), False)
        self.stem = torch.nn.Conv2d(channels, 4, 3)
        self.body = torch.nn.Conv2d(4, 5, 3)
        self.head = torch.nn.Linear(5, classes)

    def forward(self, image):
        return self.stem(image)


@pytest.fixture
def published(tmp_path):
    """A file of weights of a model of three channels and two classes, and that model."""
    torch.manual_seed(0)
    source = Colours()
    AtomicCheckpointer(source, str(tmp_path)).save_weights("published")
    return str(tmp_path / "published.pth"), source


def start(model, path, folder):
    """Load as a training does that begins with these weights."""
    AtomicCheckpointer(model, str(folder)).resume_or_load(path, resume=False)
    return model


def test_starting_with_other_classes_leaves_out_the_heads_and_names_them(
    published, tmp_path, caplog
):
    path, source = published
    target = Colours(classes=7)
    before = target.head.weight.clone()
    with caplog.at_level(logging.INFO):
        start(target, path, tmp_path / "new")
    assert torch.equal(target.stem.weight, source.stem.weight)
    assert torch.equal(target.head.weight, before)
    (line,) = [r.getMessage() for r in caplog.records if "Left out" in r.getMessage()]
    assert "learned anew: head." in line and "(2, 5) in the file, (7, 5) in the model" in line


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_starting_with_other_channels_gives_the_same_response_to_a_constant(
    published, tmp_path, caplog, channels
):
    path, source = published
    target = start(Colours(channels), path, tmp_path / "new")
    image = torch.randn(1, 1, 8, 8)
    expected = source(image.expand(1, 3, 8, 8))
    assert torch.allclose(target(image.expand(1, channels, 8, 8)), expected, atol=1e-6)
    assert torch.equal(target.body.weight, source.body.weight)
    assert torch.equal(target.head.weight, source.head.weight)
    mean = source.stem.weight.mean(dim=1) * 3 / channels
    assert all(torch.allclose(target.stem.weight[:, i], mean) for i in range(channels))
    assert f"stem.weight from 3 to {channels} channels" in caplog.text


def test_starting_with_the_same_channels_changes_nothing(published, tmp_path, caplog):
    path, source = published
    target = start(Colours(), path, tmp_path / "new")
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters()))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_inference_does_not_adapt_channels(published):
    path, _ = published
    with pytest.raises(UserError, match=r"stem\.weight.*MODEL\.PIXEL_MEAN"):
        load_weights(Colours(channels=4), path)


@pytest.mark.parametrize("channels", [3, 4])
def test_weights_of_other_code_are_matched_and_adapted(tmp_path, channels):
    """A file whose names end as those of the model do, and which says that names are matched."""
    torch.manual_seed(0)
    source = Colours()
    arrays = {name: value.numpy() for name, value in source.stem.state_dict(prefix="stem.").items()}
    with (tmp_path / "other.pkl").open("wb") as file:
        data = {"model": arrays, "__author__": "other", "matching_heuristics": True}
        pickle.dump(data, file)
    target = start(Colours(channels), str(tmp_path / "other.pkl"), tmp_path / "new")
    image = torch.randn(1, 1, 8, 8)
    expected = source(image.expand(1, 3, 8, 8))
    assert torch.allclose(target(image.expand(1, channels, 8, 8)), expected, atol=1e-6)


@pytest.mark.parametrize("other", [{"classes": 7}, {"channels": 4}])
def test_resuming_another_model_says_how_to_start_from_it(tmp_path, other):
    def checkpointer(model):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        return AtomicCheckpointer(model, str(tmp_path), optimizer=optimizer)

    checkpointer(Colours()).save("model_0000001")
    checkpointer(Colours()).resume_or_load("", resume=True)
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS .*model_0000001\.pth.*OUTPUT_DIR"):
        checkpointer(Colours(**other)).resume_or_load("", resume=True)


def test_resuming_with_other_groups_of_parameters_is_a_sentence(tmp_path):
    def checkpointer(*groups):
        source = Colours()
        named = [[p for n, p in source.named_parameters() if n.startswith(g)] for g in groups]
        optimizer = torch.optim.SGD([{"params": group} for group in named], 0.1)
        return AtomicCheckpointer(source, str(tmp_path), optimizer=optimizer)

    checkpointer("").save("model_0000001")
    with pytest.raises(UserError, match="optimiser"):
        checkpointer("stem", "body").resume_or_load("", resume=True)
