"""The levers one at a time: what they change, and when a run counts as broken through."""

from instance_seg_analysis.benchmark import levers
from instance_seg_analysis.benchmark.levers import CONFIG, LEVERS, RSIS, lever_cfg, time_to_break

SMALL = [
    "DATASETS.REGISTER",
    "[{'name': 'tiny_levers', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 4,"
    " 'image_size': 64}]",
    *("DATASETS.TRAIN", "('tiny_levers',)", "DATASETS.TEST", "('tiny_levers',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", "1", "MODEL.DEVICE", "cpu"),
]


def keys(changes):
    """The node of the config, dotted keys for those of its sub-nodes."""
    node = lever_cfg(CONFIG, changes).MODEL.RECURRENT_INSTANCE_SEG
    flat = {key: value for key, value in node.items() if not isinstance(value, dict)}
    for name in node.keys() - flat.keys():
        flat.update({f"{name}.{key}": value for key, value in node[name].items()})
    return flat


def test_a_lever_changes_what_it_names_and_nothing_else():
    plain, config = keys(RSIS), keys({})
    assert all(plain[key] == value for key, value in RSIS.items())
    # What the config switches on, RSIS switches off.
    assert {key for key in config if config[key] != plain[key]} == set(RSIS)
    for changes in LEVERS.values():
        own = keys(changes)
        assert all(own[key] == value for key, value in changes.items())
        assert {key for key in own if own[key] != config[key]} <= set(changes)


def test_training_ends_when_the_loss_is_low_or_the_time_is_over(monkeypatch):
    cfg = lever_cfg(CONFIG, RSIS, SMALL)
    ended = time_to_break(cfg, 1e-6)
    assert ended.iterations == 1 and not ended.broke and ended.seconds > 0
    assert 0.95 < ended.loss < 1  # the mean of 1 and the first loss, 19 to 1
    monkeypatch.setattr(levers, "BROKEN", ended.loss - 0.01)
    broken = time_to_break(cfg, 1000)
    assert broken.broke and broken.iterations > 1 and broken.loss < levers.BROKEN
