#!/usr/bin/env python
"""Train or evaluate any of the ways: the config file picks.

python tools/train_net.py --config-file configs/Synthetic/mask_rcnn_R18_shapes.yaml
"""

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from ways import load_cfg, run_tool

from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.checks import check_config
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.results import write_results
from instance_seg_common.evaluation.published import comparisons


def train_or_evaluate(args):
    """What each process does."""
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="instance_seg_common")
    if args.eval_only:
        return evaluate(cfg)
    trainer = InstanceSegTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate(cfg):
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST``, write results.json, print what compares."""
    check_config(cfg, training=False)
    results = InstanceSegTrainer.test(cfg, build_predictor(cfg))
    if comm.is_main_process():
        write_results(cfg, results, cfg.MODEL.WEIGHTS)
        for table in comparisons(cfg.DATASETS.TEST, results):
            print(table)
    return results


def main():
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
