"""A model that reads the fourth channel learns what separates objects in that channel alone."""

import yaml
from by_heart import train_until
from fourth_channel import config_of, load_anew, write_fourth_channel


def reached(results):
    return results["segm"]["AP"] > 60


def test_the_fourth_channel_is_learned(tmp_path):
    write_fourth_channel(tmp_path, train=60, val=8)
    path = tmp_path / "embedding.yaml"
    config = config_of("embedding", tmp_path)
    config["SOLVER"].update(MAX_ITER=240, BASE_LR=0.003, WARMUP_ITERS=10)
    path.write_text(yaml.safe_dump(config))
    assert reached(train_until(load_anew(path), every=15, reached=reached))
