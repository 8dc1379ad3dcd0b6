#!/usr/bin/env python
"""Train or evaluate a model of any method: the config picks.

python tools/train_net.py --config-file configs/Synthetic/mask_rcnn_R18_shapes.yaml
"""

import argparse

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.checkpoint import cfg_to_resume
from instance_seg_common.engine.command_line import run_tool
from instance_seg_common.engine.evaluate import evaluate
from instance_seg_common.engine.setup import load_cfg


def train_or_evaluate(args: argparse.Namespace) -> "dict[str, dict[str, float]]":
    """What each process does."""
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="instance_seg_common")
    if args.eval_only:
        return evaluate(cfg)
    trainer = InstanceSegTrainer(cfg_to_resume(cfg) if args.resume else cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def main() -> None:
    """Start the processes."""
    args = default_argument_parser(__doc__).parse_args()
    launch(
        train_or_evaluate,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


if __name__ == "__main__":
    run_tool(main)
