"""The command `ranet`: prepare | train | evaluate | predict | port | bench | reproduce | inspect.

Errors of input end in one sentence on standard error and exit status 1. Training that a signal
stopped has exit status 143 (SIGTERM) or 130 (Ctrl-C): the same command goes on.
"""

import argparse
import os
import sys

from absl import logging

from ranet_jax.cli import commands
from ranet_jax.errors import Interrupted, UserError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.ERROR)
    parsed, overrides = _parser().parse_known_args(arguments)
    try:
        if overrides and not hasattr(parsed, "takes_overrides"):
            raise UserError(f"{overrides[0]!r} is no option of `ranet {parsed.command}`.")
        parsed.overrides = overrides
        return parsed.run(parsed)
    except UserError as error:
        print(f"ranet: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f"ranet: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("ranet: interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ranet", description="Region Attention Network for semantic segmentation, in JAX."
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    overriding = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."

    prepare = subparsers.add_parser("prepare", help="write a data set in TFDS's format")
    prepare.add_argument("name", help="data set: a folder of data/")
    prepare.add_argument("--source", help="directory of the original files")
    prepare.add_argument("--data-dir", help="where to write (default: TFDS's directory)")
    prepare.set_defaults(run=commands.run_prepare)

    train = subparsers.add_parser("train", help="train, or go on training", epilog=overriding)
    train.add_argument("--config", required=True, help="file of configs/")
    train.add_argument("--workdir", required=True, help="directory of checkpoints and metrics")
    train.add_argument(
        "--distributed", action="store_true", help="one process of several: see launch/README.md"
    )
    train.add_argument("--coordinator", metavar="HOST:PORT", help="with --distributed: process 0")
    train.add_argument("--num-processes", type=int, help="with --distributed: how many")
    train.add_argument("--process-id", type=int, help="with --distributed: which this is")
    train.set_defaults(run=commands.run_train, takes_overrides=True)

    evaluate = subparsers.add_parser("evaluate", help="score a checkpoint", epilog=overriding)
    evaluate.add_argument("checkpoint", help="working directory, checkpoint or exported model")
    evaluate.add_argument("--split", help="split of the data set (default: the config's)")
    evaluate.add_argument("--output", help="JSON file (default: in the checkpoint's directory)")
    evaluate.add_argument(
        "--pictures", type=int, default=0, metavar="N", help="draw the first N images too"
    )
    evaluate.set_defaults(run=commands.run_evaluate, takes_overrides=True)

    predict = subparsers.add_parser("predict", help="segment images", epilog=overriding)
    predict.add_argument("checkpoint", help="working directory, checkpoint or exported model")
    predict.add_argument(
        "images",
        nargs="+",
        help="image files, or directories that hold them; with --submission at any depth",
    )
    predict.add_argument(
        "--output", required=True, help="directory of the pictures; with --submission, a .zip"
    )
    predict.add_argument(
        "--submission",
        choices=("cityscapes",),
        help="write the label images that this benchmark's server takes",
    )
    predict.set_defaults(run=commands.run_predict, takes_overrides=True)

    port = subparsers.add_parser("port", help="carry weights over from PyTorch, or back")
    port.add_argument(
        "source", help="state dict: .pth, .pt, .safetensors or .npz; with --reverse, a checkpoint"
    )
    port.add_argument("--model", metavar="NAME", help="network, or a file of configs/")
    port.add_argument("--output", help="new directory; with --reverse, new file")
    port.add_argument("--output-stride", type=int, metavar="N", help="default: the usual one")
    port.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="give a classifier of other classes new weights",
    )
    port.add_argument("--allow-missing", metavar="REGEX", help="arrays that SOURCE may lack")
    port.add_argument("--prefix", help="take the tensors whose names begin so alone")
    port.add_argument("--dataset", metavar="NAME", help="prepared data set a segmenter scores")
    port.add_argument("--data-dir", help="where it is (default: TFDS's directory)")
    port.add_argument(
        "--verify", action="store_true", help="compare every stage with PyTorch's, before writing"
    )
    port.add_argument("--reverse", action="store_true", help="from a checkpoint to a state dict")
    port.add_argument("--format", choices=("pth", "safetensors"), help="with --reverse")
    port.add_argument("--naming", metavar="NAME", help="with --reverse: whose names")
    port.set_defaults(run=commands.run_port)

    bench = subparsers.add_parser("bench", help="measure what parts of the network take")
    subjects = bench.add_subparsers(dest="subject", required=True)

    regions = subjects.add_parser("regions", help="region construction and interaction")
    regions.add_argument(
        "--num-classes",
        nargs="+",
        type=int,
        metavar="C",
        help="categories, any number of counts (default: 19 59 171; with --target, 19)",
    )
    regions.add_argument(
        "--paths",
        nargs="+",
        choices=("auto", "streaming", "planes", "kernel", "dense"),
        help="values of config.model.region_path (default: streaming and dense; with --target,"
        " auto)",
    )
    regions.add_argument(
        "--scene",
        choices=("cells", "uniform"),
        help="what the maps show: cells of about 10 x 10 pixels, or one region (default: cells)",
    )
    regions.add_argument("--repeats", type=int, metavar="N", help="runs of each (default: 3)")
    regions.add_argument(
        "--target",
        metavar="NAME",
        help="compile for an absent machine, such as h100 or v5e:2x2, and run nothing",
    )
    regions.add_argument(
        "--batch", type=int, metavar="N", help="with --target: images (default: 1)"
    )
    regions.add_argument(
        "--parts",
        nargs="+",
        choices=("construction", "both", "interaction"),
        help="with --target: blocks to compile (default: all)",
    )
    regions.set_defaults(run=commands.run_bench_regions)

    step = subjects.add_parser(
        "step",
        help="a config's training step, compiled for an absent machine",
        epilog=overriding,
    )
    step.add_argument("--config", required=True, help="file of configs/")
    step.add_argument(
        "--target",
        required=True,
        metavar="NAME",
        help="h100, h100:8, or a TPU such as v5e:2x2, v5e:16x16, v4:2x2x1, v5p:2x2x1, v6e:2x2",
    )
    step.add_argument(
        "--num-classes",
        type=int,
        metavar="C",
        help="categories (default: as many as the config has class weights, or 19)",
    )
    step.set_defaults(run=commands.run_bench_step, takes_overrides=True)

    heads = subjects.add_parser("heads", help="FLOPs, parameters and memory of context blocks")
    heads.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    heads.set_defaults(run=commands.run_bench_heads)
    for subject in (regions, heads):
        subject.add_argument(
            "--size",
            nargs=2,
            type=int,
            default=(97, 97),
            metavar=("HEIGHT", "WIDTH"),
            help="of the feature map (default: 97 97)",
        )
    for subject in (regions, heads, step):
        subject.add_argument("--output", metavar="FILE.json", help="where to write the results too")

    reproduce = subparsers.add_parser(
        "reproduce", help="train and measure the rows of a table of the paper", epilog=overriding
    )
    reproduce.add_argument("table", choices=("table1", "table2", "table3", "table4", "oracle"))
    reproduce.add_argument("--data", required=True, metavar="NAME", help="prepared data set")
    reproduce.add_argument("--output", required=True, help="directory of runs and tables")
    reproduce.add_argument("--config", help="file of configs/ (default: that of the data set)")
    reproduce.add_argument("--data-dir", help="where it is (default: TFDS's directory)")
    reproduce.add_argument(
        "--steps", type=int, help="of each training, warm-up in proportion (default: the config's)"
    )
    reproduce.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="trainings of each row (default: 1)"
    )
    reproduce.add_argument(
        "--rows", nargs="+", metavar="RUN", help="train these alone, such as: none ranet"
    )
    reproduce.set_defaults(run=commands.run_reproduce, takes_overrides=True)

    inspect = subparsers.add_parser(
        "inspect", help="parameters and feature sizes of a config", epilog=overriding
    )
    inspect.add_argument("--config", required=True, help="file of configs/")
    inspect.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    inspect.add_argument("--parameters", action="store_true", help="list every parameter")
    inspect.set_defaults(run=commands.run_inspect, takes_overrides=True)
    return parser
