"""`ranet bench`: measure the cost of parts of the network."""

import argparse
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.cli.arguments import OVERRIDING, PathText, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import read_config
from ranet_jax.display.tables import show
from ranet_jax.errors import UserError

EXAMPLES = (
    "ranet bench regions --size 33 33",
    "ranet bench step --config configs/ranet_resnet101_cityscapes_769_40k.py --target h100",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "bench", help="measure the cost of parts of the network", **with_examples(*EXAMPLES)
    )
    subjects = parser.add_subparsers(dest="subject", required=True)

    _add_regions(subjects)
    _add_step(subjects)
    _add_heads(subjects)
    _add_device(subjects)
    _add_checkpoint(subjects)
    _add_export(subjects)


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=(97, 97),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the feature map (default: 97 97)",
    )


def _add_num_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="C",
        help="categories (default: as many as the config has class weights, or 19)",
    )


def _num_classes(arguments: argparse.Namespace, config: ConfigDict) -> int:
    if arguments.num_classes is None:
        return len(config.loss.class_weights) or 19
    return arguments.num_classes


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=PathText, metavar="FILE.json", help="also write the results to this file"
    )


def _check_output(arguments: argparse.Namespace) -> None:
    """Raise `UserError`, before anything is measured, if the results cannot be written."""
    from ranet_jax.files import check_json_output

    if arguments.output is not None:
        check_json_output(arguments.output, "results")


def _show(arguments: argparse.Namespace, report: str, results: Any) -> None:
    """Print a report, or its results as JSON, and write the results if asked to."""
    from ranet_jax.bench.measure import write_results

    show(report)
    show_document(results)
    if arguments.output is not None:
        write_results(arguments.output, results)


# ------------------------------------------------------------------------------- regions


def _add_regions(subjects: Any) -> None:
    parser = subjects.add_parser("regions", help="region construction and interaction")
    parser.add_argument(
        "--num-classes",
        nargs="+",
        type=int,
        metavar="C",
        help="one or more numbers of categories (default: 19 59 171; with --target, 19)",
    )
    parser.add_argument(
        "--paths",
        nargs="+",
        choices=("auto", "streaming", "planes", "kernel", "dense"),
        help="values of config.model.region_path (default: streaming and dense; with --target,"
        " auto)",
    )
    parser.add_argument(
        "--scene",
        choices=("cells", "uniform"),
        help="what the maps show: cells of about 10 x 10 pixels, or one region (default: cells)",
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="runs of each case (default: 3)")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="compile for an absent machine, such as h100 or v5e:2x2, and run nothing",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="with --target: images (default: 1)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("construction", "both", "interaction"),
        help="with --target: blocks to compile (default: all)",
    )
    _add_size(parser)
    _add_output(parser)
    parser.set_defaults(run=run_regions)


def run_regions(arguments: argparse.Namespace) -> int:
    """Measure region construction and interaction, or compile them for an absent machine."""
    from ranet_jax.bench import regions

    _check_output(arguments)
    if arguments.target is not None:
        return _compile_regions(arguments)
    refuse(arguments, ("--batch", "--parts"), "has no meaning without --target")
    size = tuple(arguments.size)
    classes = arguments.num_classes or (19, 59, 171)
    paths = arguments.paths or ("streaming", "dense")
    repeats = 3 if arguments.repeats is None else arguments.repeats
    scene = arguments.scene or "cells"
    costs = regions.measure_regions(size, classes, paths, repeats, scene)
    report = regions.regions_report(costs, size, scene)
    _show(arguments, report, regions.regions_results(costs, size, scene))
    return 0


def _compile_regions(arguments: argparse.Namespace) -> int:
    from ranet_jax.bench import absent_regions
    from ranet_jax.bench.targets import open_target

    refuse(arguments, ("--repeats", "--scene"), "has no meaning with --target, which runs nothing")
    target, size = open_target(arguments.target), tuple(arguments.size)
    classes, paths = arguments.num_classes or (19,), arguments.paths or ("auto",)
    batch = 1 if arguments.batch is None else arguments.batch
    parts = arguments.parts or absent_regions.PARTS
    costs = absent_regions.compile_regions(target, size, classes, paths, batch, parts)
    report = absent_regions.regions_report(costs, size, batch, target)
    _show(arguments, report, absent_regions.regions_results(costs, size, batch, target))
    return 0


# ---------------------------------------------------------------------------------- step


def _add_step(subjects: Any) -> None:
    parser = subjects.add_parser(
        "step",
        help="a config's training step, compiled for an absent machine or timed against PyTorch's",
        epilog=OVERRIDING,
    )
    parser.add_argument("--config", type=PathText, required=True, help="file of configs/")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--target",
        metavar="NAME",
        help="compile for h100, h100:8, or a TPU such as v5e:2x2, v5e:16x16, v4:2x2x1, v5p:2x2x1,"
        " v6e:2x2, and run nothing",
    )
    what.add_argument(
        "--against",
        choices=("torch",),
        help="run the step here, alternating with PyTorch's step of the same network",
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="with --against: timed steps (default: 5)"
    )
    _add_num_classes(parser)
    _add_output(parser)
    parser.set_defaults(run=run_step, takes_overrides=True)


def run_step(arguments: argparse.Namespace) -> int:
    """Compile a training step for an absent machine, or time it here in turn with PyTorch's."""

    _check_output(arguments)
    config = read_config(arguments.config, arguments.overrides)
    classes = _num_classes(arguments, config)
    if arguments.against is not None:
        report, results = _time_step(config, classes, arguments.repeats)
    else:
        refuse(arguments, ("--repeats",), "has no meaning with --target, which runs nothing")
        report, results = _compile_step(config, classes, arguments.target)
    _show(arguments, report, results)
    return 0


def _compile_step(config: ConfigDict, classes: int, name: str) -> tuple[str, dict[str, Any]]:
    from ranet_jax.bench import step
    from ranet_jax.bench.targets import open_target

    target = open_target(name)
    costs = step.compile_steps(config, target, classes)
    results = step.steps_results(costs, config, target, classes)
    return step.steps_report(costs, config, target, classes), results


def _time_step(config: ConfigDict, classes: int, repeats: int | None) -> tuple[str, dict[str, Any]]:
    from ranet_jax.bench import against_torch

    found = against_torch.compare_steps(config, classes, 5 if repeats is None else repeats)
    results = against_torch.comparison_results(found, config)
    return against_torch.comparison_report(found, config), results


# --------------------------------------------------------------------------------- heads


def _add_heads(subjects: Any) -> None:
    parser = subjects.add_parser("heads", help="FLOPs, parameters and memory of context blocks")
    parser.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    _add_size(parser)
    _add_output(parser)
    parser.set_defaults(run=run_heads)


def run_heads(arguments: argparse.Namespace) -> int:
    """Measure context blocks."""
    from ranet_jax.bench import heads

    _check_output(arguments)
    size = tuple(arguments.size)
    compared = heads.table3_heads(size, arguments.num_classes)
    costs = [heads.measure_head(head) for head in compared]
    report = heads.heads_report(costs, size)
    _show(arguments, report, heads.heads_results(costs, size, arguments.num_classes))
    return 0


# -------------------------------------------------------------------------------- device


def _add_device(subjects: Any) -> None:
    parser = subjects.add_parser(
        "device",
        help="check and time this machine's accelerator (regions, steps; with --arrays, training)",
        epilog=OVERRIDING,
    )
    parser.add_argument(
        "--config", type=PathText, required=True, help="file of configs/ whose step is timed"
    )
    parser.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    _add_size(parser)
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="timed runs of each case (default: 5)"
    )
    parser.add_argument(
        "--arrays", type=PathText, metavar="FILE.npz", help="file of `ranet pack` to train on"
    )
    parser.add_argument(
        "--train-config", type=PathText, metavar="FILE", help="with --arrays: config to train"
    )
    parser.add_argument(
        "--workdir", type=PathText, help="with --arrays: directory of its checkpoints"
    )
    _add_output(parser)
    parser.set_defaults(run=run_device, takes_overrides=True)


def run_device(arguments: argparse.Namespace) -> int:
    """Check the schedules, time blocks and steps, train if asked; fail if a schedule differs."""
    from ranet_jax.bench import device

    _check_output(arguments)
    config = read_config(arguments.config, arguments.overrides)
    train = _prepare_training(arguments)
    agreements = device.check_schedules(arguments.num_classes)
    size = tuple(arguments.size)
    timings = device.time_device(config, arguments.num_classes, size, arguments.repeats)
    miou = train()
    report = device.device_report(agreements, timings, miou)
    _show(arguments, report, device.device_results(agreements, timings, miou))
    wrong = [each.schedule for each in agreements if not each.passes]
    if wrong:
        raise UserError(
            f"The regions of {', '.join(wrong)} differ from the dense equations on this device;"
            " report the table above."
        )
    return 0


def _prepare_training(arguments: argparse.Namespace) -> Callable[[], float | None]:
    """Check the input of a training, if any; return what trains and gives the fine mean IoU."""
    asked = (arguments.arrays, arguments.train_config, arguments.workdir)
    if all(each is None for each in asked):
        return lambda: None
    if any(each is None for each in asked):
        raise UserError("--arrays, --train-config and --workdir go together; give all or none.")
    config = read_config(arguments.train_config, [])
    from ranet_jax.pipeline.training_data import open_training_data

    data = open_training_data(config, arguments.arrays)

    def run() -> float:
        from ranet_jax.training.loop import train

        return train(config, arguments.workdir, *data).fine.miou

    return run


# ---------------------------------------------------------------------------- checkpoint


def _add_checkpoint(subjects: Any) -> None:
    parser = subjects.add_parser(
        "checkpoint",
        help="saving and loading a config's training state, and its checksums",
        epilog=OVERRIDING,
    )
    parser.add_argument("--config", type=PathText, required=True, help="file of configs/")
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="number of saves and loads (default: 5)"
    )
    parser.add_argument(
        "--directory",
        type=PathText,
        help="where to write and remove the checkpoints (default: where temporary files are)",
    )
    _add_num_classes(parser)
    _add_output(parser)
    parser.set_defaults(run=run_checkpoint, takes_overrides=True)


def run_checkpoint(arguments: argparse.Namespace) -> int:
    """Time saving and loading a training state."""
    from ranet_jax.bench import checkpoint

    _check_output(arguments)
    config = read_config(arguments.config, arguments.overrides)
    classes = _num_classes(arguments, config)
    cost = checkpoint.measure_checkpoint(config, classes, arguments.repeats, arguments.directory)
    report = checkpoint.checkpoint_report(cost)
    _show(arguments, report, checkpoint.checkpoint_results(cost))
    return 0


# -------------------------------------------------------------------------------- export


def _add_export(subjects: Any) -> None:
    parser = subjects.add_parser(
        "export", help="predictions of a model in the runtimes that it is exported for"
    )
    parser.add_argument(
        "checkpoint",
        type=PathText,
        help="working directory, checkpoint, exported or published model",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=("stablehlo", "onnx", "savedmodel", "tflite"),
        default=("stablehlo", "onnx", "savedmodel", "tflite"),
        help="formats of `ranet export` to measure (default: all)",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        required=True,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the image in pixels",
    )
    parser.add_argument(
        "--repeats", type=int, default=20, metavar="N", help="timed predictions (default: 20)"
    )
    _add_output(parser)
    parser.set_defaults(run=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Time a model in the runtimes that it is exported for."""
    from ranet_jax.bench import exports

    _check_output(arguments)
    path, size = arguments.checkpoint, tuple(arguments.size)
    costs = exports.measure_exports(path, arguments.formats, size, arguments.repeats)
    report = exports.exports_report(costs, path, size)
    _show(arguments, report, exports.exports_results(costs, path, size))
    return 0
