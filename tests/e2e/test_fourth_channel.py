"""A model that reads the fourth channel learns what separates objects in that channel alone."""

import yaml
from fourth_channel import config_of, load_anew, write_fourth_channel

from instance_seg_common.engine.trainer import InstanceSegTrainer


def test_the_fourth_channel_is_learned(tmp_path):
    write_fourth_channel(tmp_path, train=60, val=8)
    path = tmp_path / "embedding.yaml"
    config = config_of("embedding", tmp_path)
    config["SOLVER"].update(MAX_ITER=120, BASE_LR=0.002, WARMUP_ITERS=10)
    config["TEST"].update(PICTURES=0, VALIDATION_LOSS_IMAGES=0)
    path.write_text(yaml.safe_dump(config))
    trainer = InstanceSegTrainer(load_anew(path))
    trainer.resume_or_load(resume=False)
    assert trainer.train()["segm"]["AP"] > 60
