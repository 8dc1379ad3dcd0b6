"""How fast a recurrent model begins to tell objects apart, one lever at a time, from scratch.

    python tools/measure_levers.py [--levers plain feedback ...] [--seconds 360] [--json FILE]

At first every step paints all objects at once, and 1 - soft IoU stays near 0.8. A lever is judged
by the CPU time, one thread, until the running mean of the training loss is below 0.6.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from tabulate import tabulate
from ways import load_cfg, run_tool

from instance_seg_common.data.loader import build_train_loader
from instance_seg_common.engine.optimizer import build_optimizer

NODE = "MODEL.RECURRENT_INSTANCE_SEG."
CONFIG = "configs/Synthetic/recurrent_R18_shapes.yaml"
BROKEN = 0.6
# RSIS's decoder and losses, nothing else.
PLAIN = {
    "ATTENTION": False, "INHIBITION_GAIN": 1.0, "RETURN_INHIBITION": 0.0,
    "FEEDBACK": False, "COORDINATES": False, "MASK_POOLING": False, "TEACHER": "",
    "TEACHER_UNTIL": 0, "RANDOM_PREFIX": False, "CURRICULUM_START": 0, "GUIDE_WEIGHT": 0.0,
    "VOTE_WEIGHT": 0.0, "POSITION_WEIGHT": 0.0,
}  # fmt: skip
INHIBITION = {"INHIBITION": True, "INHIBITION_BIAS": 8.0}
ALWAYS = {"FEEDBACK": True, "TEACHER_UNTIL": 1_000_000}
GUIDE = {"GUIDE_WEIGHT": 1.0}
ATTENTION = {"ATTENTION": True, "POSITION_WEIGHT": 1.0, "INHIBITION_GAIN": 8.0}
# What each changes against PLAIN; None leaves the config as it is.
LEVERS = {
    "plain": {},
    "curriculum, 4 objects first": {"CURRICULUM_START": 4, "CURRICULUM_LOSS": 0.5},
    "inhibition": INHIBITION,
    "inhibition, gain 8": {**INHIBITION, "INHIBITION_GAIN": 8.0},
    "feedback": {"FEEDBACK": True},
    "coordinates": {"COORDINATES": True},
    "forget bias 1": {"FORGET_BIAS": 1.0},
    "coarse masks": {"COARSE_WEIGHT": 1.0},
    "cross-entropy": {"BCE_WEIGHT": 1.0},
    "Dice": {"DICE_WEIGHT": 1.0},
    "feedback, greedy teacher": {**ALWAYS, "TEACHER": "greedy"},
    "feedback, random prefix": {**ALWAYS, "RANDOM_PREFIX": True},
    "guide": GUIDE,
    "guide, attention": {**GUIDE, **ATTENTION},
    "guide, attention, handicap": {**GUIDE, **ATTENTION, "RETURN_INHIBITION": 5.0},
    "the config": None,
}


def parse_args(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default=CONFIG, help="a leaf of the recurrent way")
    parser.add_argument("--levers", nargs="+", choices=LEVERS, default=list(LEVERS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=360, help="CPU time of each, at most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")
    return parser.parse_args(argv)


def lever_cfg(config_file, changes, opts=()):
    """The config with a lever alone.

    Args:
        config_file (str): a leaf.
        changes (dict or None): of LEVERS.
        opts (sequence[str]): keys and values in turn.

    Returns:
        CfgNode
    """
    settings = {} if changes is None else {**PLAIN, **changes}
    pairs = [part for key, value in settings.items() for part in (NODE + key, value)]
    return load_cfg(config_file, [*pairs, "DATALOADER.NUM_WORKERS", 0, *opts])


def time_to_break(cfg, seconds):
    """Train until the running loss says that steps tell objects apart.

    Args:
        cfg (CfgNode): of the recurrent way.
        seconds (float): CPU time of this process, at most.

    Returns:
        dict: ``iterations`` and ``seconds`` until then or until the time is over; ``loss``, running
        1 - soft IoU at that moment; ``broke``.
    """
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    batches = iter(build_train_loader(cfg))
    start, spent, iterations, loss = time.process_time(), 0.0, 0, 1.0
    while spent < seconds and loss >= BROKEN:
        optimizer.zero_grad()
        sum(model(next(batches)).values()).backward()
        optimizer.step()
        scheduler.step()
        loss, iterations = float(model.schedule.running), iterations + 1
        spent = time.process_time() - start
    return {"iterations": iterations, "seconds": spent, "loss": loss, "broke": loss < BROKEN}


def table(figures):
    """Text of {lever: result of :func:`time_to_break`}."""
    rows = [
        [
            name,
            f["iterations"] if f["broke"] else f"not in {f['iterations']}",
            f"{f['seconds'] / 60:.1f}",
            f"{f['loss']:.3f}",
        ]
        for name, f in figures.items()
    ]
    headers = ["lever", f"iterations until {BROKEN}", "CPU min", "1 - soft IoU"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def main(argv=None):
    """Measure, print, write."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    figures = {}
    for name in args.levers:
        cfg = lever_cfg(args.config_file, LEVERS[name], args.opts)
        figures[name] = time_to_break(cfg, args.seconds)
        print(table({name: figures[name]}).splitlines()[-1], flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(figures, indent=2) + "\n")
    print("\n" + table(figures))


if __name__ == "__main__":
    run_tool(main)
