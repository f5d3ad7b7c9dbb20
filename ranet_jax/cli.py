"""The command `ranet`: prepare | train | evaluate | predict | inspect.

Errors of input end in one sentence on standard error and exit status 1.
"""

import argparse
import ast
import importlib.util
import os
import pathlib
import sys

from absl import logging
from ml_collections import ConfigDict

from ranet_jax.errors import UserError


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
    predict.add_argument("--output", required=True, help="directory of the pictures")
    predict.set_defaults(run=_predict, takes_overrides=True)

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
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"Config {path} has no get_config(); see configs/shapes.py for one.")
    return module.get_config()


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
        section, _, field = name.rpartition(".")
        holder = config if not section else config.get(section)
        if not isinstance(holder, ConfigDict) or field not in holder:
            raise UserError(
                f"The config has no field {name!r}; its fields are listed in ranet_jax/config.py."
            )
        expected = holder.get_type(field)
        try:
            setattr(holder, field, text if expected is str else ast.literal_eval(text))
        except (TypeError, ValueError, SyntaxError) as error:
            raise UserError(
                f"Field {name!r} of the config takes a value of type {expected.__name__}, which"
                f" {text!r} is not."
            ) from error
    return config


def _prepare(arguments: argparse.Namespace) -> int:
    from ranet_jax import input as pipeline

    metadata = pipeline.prepare(arguments.name, arguments.source, arguments.data_dir)
    names = ", ".join(metadata.class_names)
    print(f"{metadata.name}: {metadata.num_classes} classes ({names}).")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    import jax

    if arguments.distributed:
        jax.distributed.initialize(
            arguments.coordinator, arguments.num_processes, arguments.process_id
        )

    from ranet_jax import input as pipeline
    from ranet_jax import visualize
    from ranet_jax.train import train

    config = override(load_config(arguments.config), arguments.overrides)
    builder = pipeline.open_dataset(config.data)
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
    failures = predict_files(model, arguments.images, arguments.output)
    return 1 if failures else 0


def _inspect(arguments: argparse.Namespace) -> int:
    from ranet_jax.inspection import inspect_config

    config = override(load_config(arguments.config), arguments.overrides)
    print(inspect_config(config, arguments.num_classes, arguments.parameters))
    return 0


if __name__ == "__main__":
    sys.exit(main())
