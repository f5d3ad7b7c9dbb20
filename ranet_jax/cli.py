"""The command `ranet`: prepare | train | evaluate | predict | port | bench | reproduce | inspect.

Errors of input end in one sentence on standard error and exit status 1. Training that SIGTERM
stopped has exit status 143: the same command goes on.
"""

import argparse
import ast
import importlib.util
import os
import pathlib
import sys
import textwrap
import traceback
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from ranet_jax.config import (
    check_config,
    config_from_json,
    config_to_json,
    default_config,
    field_type,
    set_field,
)
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
        return 143
    except KeyboardInterrupt:
        print("ranet: interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ranet", description="Region Attention Network for semantic segmentation, in JAX."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    overriding = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."

    prepare = commands.add_parser("prepare", help="write a data set in TFDS's format")
    prepare.add_argument("name", help="data set: a folder of data/")
    prepare.add_argument("--source", help="directory of the original files")
    prepare.add_argument("--data-dir", help="where to write (default: TFDS's directory)")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="train, or go on training", epilog=overriding)
    train.add_argument("--config", required=True, help="file of configs/")
    train.add_argument("--workdir", required=True, help="directory of checkpoints and metrics")
    train.add_argument(
        "--distributed", action="store_true", help="one process of several: see launch/README.md"
    )
    train.add_argument("--coordinator", metavar="HOST:PORT", help="with --distributed: process 0")
    train.add_argument("--num-processes", type=int, help="with --distributed: how many")
    train.add_argument("--process-id", type=int, help="with --distributed: which this is")
    train.set_defaults(run=_train, takes_overrides=True)

    evaluate = commands.add_parser("evaluate", help="score a checkpoint", epilog=overriding)
    evaluate.add_argument("checkpoint", help="working directory, checkpoint or exported model")
    evaluate.add_argument("--split", help="split of the data set (default: the config's)")
    evaluate.add_argument("--output", help="JSON file (default: in the checkpoint's directory)")
    evaluate.add_argument(
        "--pictures", type=int, default=0, metavar="N", help="draw the first N images too"
    )
    evaluate.set_defaults(run=_evaluate, takes_overrides=True)

    predict = commands.add_parser("predict", help="segment images", epilog=overriding)
    predict.add_argument("checkpoint", help="working directory, checkpoint or exported model")
    predict.add_argument("images", nargs="+", help="image files, or directories of them")
    predict.add_argument(
        "--output", required=True, help="directory of the pictures; with --submission, a .zip"
    )
    predict.add_argument(
        "--submission",
        choices=("cityscapes",),
        help="write the label images that this benchmark's server takes",
    )
    predict.set_defaults(run=_predict, takes_overrides=True)

    port = commands.add_parser("port", help="carry weights over from PyTorch, or back")
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
    port.set_defaults(run=_port)

    bench = commands.add_parser("bench", help="measure what parts of the network take")
    subjects = bench.add_subparsers(dest="subject", required=True)

    regions = subjects.add_parser("regions", help="region construction and interaction")
    regions.add_argument(
        "--num-classes",
        nargs="+",
        type=int,
        default=(19, 59, 171),
        metavar="C",
        help="categories, any number of counts (default: 19 59 171)",
    )
    regions.add_argument(
        "--paths",
        nargs="+",
        choices=("streaming", "dense"),
        default=("streaming", "dense"),
        help="ways to compute the regions (default: both)",
    )
    regions.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    regions.set_defaults(run=_bench_regions)

    heads = subjects.add_parser("heads", help="FLOPs, parameters and memory of context blocks")
    heads.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    heads.set_defaults(run=_bench_heads)
    for subject in (regions, heads):
        subject.add_argument(
            "--size",
            nargs=2,
            type=int,
            default=(97, 97),
            metavar=("HEIGHT", "WIDTH"),
            help="of the feature map (default: 97 97)",
        )
        subject.add_argument("--output", metavar="FILE.json", help="where to write the results too")

    reproduce = commands.add_parser(
        "reproduce", help="train and measure the rows of a table of the paper", epilog=overriding
    )
    reproduce.add_argument("table", choices=("table1", "table2", "table3", "table4"))
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
    reproduce.set_defaults(run=_reproduce, takes_overrides=True)

    inspect = commands.add_parser(
        "inspect", help="parameters and feature sizes of a config", epilog=overriding
    )
    inspect.add_argument("--config", required=True, help="file of configs/")
    inspect.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    inspect.add_argument("--parameters", action="store_true", help="list every parameter")
    inspect.set_defaults(run=_inspect, takes_overrides=True)
    return parser


def load_config(path: str) -> ConfigDict:
    """The config that a Python file's `get_config()` returns.

    Raises:
      UserError: the file is missing, has no `get_config`, fails, or sets a field that is none.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"Config {path} is missing; name a Python file such as configs/shapes.py.")
    spec = importlib.util.spec_from_file_location("ranet_config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"Config {path} is no Python file; name one such as configs/shapes.py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"Config {path} has no get_config(); see configs/shapes.py for one.")
        config = module.get_config()
        if not isinstance(config, ConfigDict):
            raise UserError(f"get_config() of {path} returns no ConfigDict; see configs/shapes.py.")
        return config_from_json(config_to_json(config))
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == spec.origin]
        place = f" in line {lines[-1]}" if lines else ""
        reason = _first_sentence(error)
        raise UserError(f"Config {path} fails{place}: {type(error).__name__}: {reason}.") from error


def _first_sentence(error: Exception) -> str:
    """What an exception of another library says, cut to a length that can be read."""
    return textwrap.shorten(str(error).partition(". ")[0], 200).strip("'.")


def override(config: ConfigDict, arguments: list[str]) -> ConfigDict:
    """The config with `--config.section.field=value` arguments applied.

    A value is written as in Python: `0.5`, `True`, `None`, `"(0.5, 1.0)"`; text needs no quotes.

    Raises:
      UserError: an argument names no field, or its value does not fit the field.
    """
    for argument in arguments:
        name, equals, text = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not equals:
            raise UserError(
                f"{argument!r} is no option; fields are set as --config.section.field=value."
            )
        is_text = field_type(name) is str and text != "None"
        set_field(config, name, text if is_text else _value(text))
    return config


def _value(text: str) -> Any:
    """The Python value that a text writes, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (TypeError, ValueError, SyntaxError):
        return text


def _prepare(arguments: argparse.Namespace) -> int:
    from ranet_jax import input as pipeline
    from ranet_jax.label_statistics import count_labels

    metadata = pipeline.prepare(arguments.name, arguments.source, arguments.data_dir)
    names = ", ".join(metadata.class_names)
    print(f"{metadata.name}: {metadata.num_classes} classes ({names}).")
    data = default_config().data
    data.name, data.data_dir = arguments.name, arguments.data_dir
    builder, split = pipeline.open_dataset(data), data.train_split
    statistics = count_labels(
        pipeline.label_maps(builder, split),
        metadata,
        split,
        pipeline.num_examples(builder, split),
    )
    print(statistics.report())
    return 0


def _train(arguments: argparse.Namespace) -> int:
    import jax

    processes = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if arguments.distributed:
        try:
            jax.distributed.initialize(*processes)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                "The processes of --distributed cannot find one another:"
                f" {_first_sentence(error)}; see launch/README.md."
            ) from error
    elif processes != (None, None, None):
        raise UserError(
            "--coordinator, --num-processes and --process-id need --distributed; add it."
        )

    from ranet_jax import input as pipeline
    from ranet_jax import visualize
    from ranet_jax.train import train

    config = override(load_config(arguments.config), arguments.overrides)
    check_config(config)
    builder = pipeline.open_dataset(config.data)
    for split in (config.data.train_split, config.data.eval_split):
        pipeline.num_examples(builder, split)  # raises UserError before training starts
    result = train(
        config,
        arguments.workdir,
        pipeline.dataset_metadata(builder),
        lambda step: pipeline.train_batches(config, builder, step),
        lambda: pipeline.evaluation_batches(config, builder, config.data.eval_split),
    )
    if jax.process_index() == 0:
        workdir = pathlib.Path(arguments.workdir)
        visualize.curves(workdir / "metrics.jsonl", workdir / "curves.png")
        print(result.table())
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from ranet_jax.evaluate import evaluate_checkpoint

    result = evaluate_checkpoint(
        arguments.checkpoint,
        split=arguments.split,
        output=arguments.output,
        pictures=arguments.pictures,
        configure=lambda config: override(config, arguments.overrides),
    )
    print(result.table())
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from ranet_jax.inference import load
    from ranet_jax.predict import predict_files

    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    if arguments.submission is not None:
        from ranet_jax.submission import write_submission

        count = write_submission(model, arguments.submission, arguments.images, arguments.output)
        print(f"{count} label images are in {arguments.output}.")
        return 0
    failures = predict_files(model, arguments.images, arguments.output)
    return 1 if failures else 0


def _port(arguments: argparse.Namespace) -> int:
    return _port_back(arguments) if arguments.reverse else _port_in(arguments)


def _refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    """Raise `UserError` if one of the options is given."""
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None and value is not False:
            raise UserError(f"{option} {why}; leave it out.")


def _port_in(arguments: argparse.Namespace) -> int:
    from ranet_jax import porting
    from ranet_jax.porting import verify

    _refuse(arguments, ("--format", "--naming"), "belongs to --reverse")
    for option in ("model", "output"):
        if getattr(arguments, option) is None:
            raise UserError(f"`ranet port` needs --{option}; see `ranet port --help`.")
    output, source = pathlib.Path(arguments.output), pathlib.Path(arguments.source)
    if os.path.lexists(output):
        raise UserError(f"{output} exists already; choose another directory.")
    is_config = arguments.model.endswith(".py")
    tensors = porting.read_state_dict(source, arguments.prefix)
    ported = porting.port_state_dict(
        tensors,
        load_config(arguments.model) if is_config else arguments.model,
        arguments.output_stride,
        arguments.allow_missing,
        arguments.num_classes,
    )
    print(ported.summary())
    if arguments.verify:
        differences = verify.verify(ported, tensors)
        print(verify.report(differences))
        if not verify.passes(differences):
            raise UserError(
                f"{source} computes something else here than in PyTorch (more than"
                f" {verify.TOLERANCE:g} in float32); nothing is written."
            )
    dataset = None
    if arguments.dataset is not None:
        from ranet_jax import input as pipeline

        if ported.network.config is None:
            raise UserError(f"{ported.network.name} scores no data set; leave --dataset out.")
        data = ported.network.config.data
        data.name, data.data_dir = arguments.dataset, arguments.data_dir
        dataset = pipeline.dataset_metadata(pipeline.open_dataset(data))
    porting.write_ported(output, ported, source, dataset)
    print(f"Written to {output}.")
    return 0


def _port_back(arguments: argparse.Namespace) -> int:
    from ranet_jax import porting

    forward = ("--model", "--output-stride", "--num-classes", "--allow-missing", "--prefix")
    others = ("--dataset", "--data-dir", "--verify")
    _refuse(arguments, (*forward, *others), "does not go with --reverse")
    if arguments.format is None:
        raise UserError("--reverse needs --format pth or --format safetensors.")
    checkpoint = pathlib.Path(arguments.source)
    output = pathlib.Path(arguments.output or f"{checkpoint.absolute().name}.{arguments.format}")
    if output.suffix != f".{arguments.format}":
        raise UserError(f"{output} does not end in .{arguments.format}; give both one format.")
    naming, left_out = porting.reverse(checkpoint, output, arguments.naming)
    print(f"Written to {output}, in the names of {naming}.")
    if left_out:
        print(f"{len(left_out)} arrays that its source lacked are left out.")
    return 0


def _bench_regions(arguments: argparse.Namespace) -> int:
    from ranet_jax.bench import regions
    from ranet_jax.bench.measure import write_results
    from ranet_jax.files import check_json_output

    if arguments.output is not None:
        check_json_output(arguments.output, "results")
    size = tuple(arguments.size)
    costs = regions.measure_regions(size, arguments.num_classes, arguments.paths, arguments.repeats)
    print(regions.regions_report(costs, size))
    if arguments.output is not None:
        write_results(arguments.output, regions.regions_results(costs, size))
    return 0


def _bench_heads(arguments: argparse.Namespace) -> int:
    from ranet_jax.bench import heads
    from ranet_jax.bench.measure import write_results
    from ranet_jax.files import check_json_output

    if arguments.output is not None:
        check_json_output(arguments.output, "results")
    size = tuple(arguments.size)
    compared = heads.table3_heads(size, arguments.num_classes)
    costs = [heads.measure_head(head) for head in compared]
    print(heads.heads_report(costs, size))
    if arguments.output is not None:
        write_results(arguments.output, heads.heads_results(costs, size, arguments.num_classes))
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from ranet_jax import reproduce

    config = load_config(arguments.config or str(reproduce.base_config(arguments.data)))
    config.data.name, config.data.data_dir = arguments.data, arguments.data_dir
    if arguments.steps is not None:
        check_config(config)
        warmup = config.optimizer.warmup_steps * arguments.steps // config.train.steps
        config.optimizer.warmup_steps = warmup
        config.train.steps = config.train.eval_every = arguments.steps
    config = override(config, arguments.overrides)
    check_config(config)
    table = reproduce.reproduce(
        arguments.table, config, arguments.output, arguments.seeds, arguments.rows
    )
    print(f"\n{table}\n\nWritten to {arguments.output}/{arguments.table}.md and .json.")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from ranet_jax.inspection import inspect_config

    config = override(load_config(arguments.config), arguments.overrides)
    check_config(config)
    print(inspect_config(config, arguments.num_classes, arguments.parameters))
    return 0


if __name__ == "__main__":
    sys.exit(main())
