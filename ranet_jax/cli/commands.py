"""What the commands do, each with its parsed arguments; they return the exit status.

Everything that takes long to import is imported by the command that needs it.
"""

import argparse
import os
import pathlib

from ranet_jax.config import check_config, default_config
from ranet_jax.config_files import load_config, override
from ranet_jax.errors import UserError, first_sentence


def run_prepare(arguments: argparse.Namespace) -> int:
    """Prepare a data set, and print its classes and how often each occurs."""
    from ranet_jax.pipeline import examples as pipeline
    from ranet_jax.pipeline.labels import count_labels

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


def run_train(arguments: argparse.Namespace) -> int:
    """Train, or go on, in one process or as one of several; print the scores."""
    import jax

    processes = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if arguments.distributed:
        try:
            jax.distributed.initialize(*processes)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                "The processes of --distributed cannot find one another:"
                f" {first_sentence(error)}; see launch/README.md."
            ) from error
    elif processes != (None, None, None):
        raise UserError(
            "--coordinator, --num-processes and --process-id need --distributed; add it."
        )

    from ranet_jax.inference import pictures as visualize
    from ranet_jax.pipeline import examples as pipeline
    from ranet_jax.training.loop import train

    config = override(load_config(arguments.config), arguments.overrides)
    check_config(config)
    builder = pipeline.open_for_training(config.data)
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


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score a checkpoint and print the table of classes."""
    from ranet_jax.evaluation.scoring import evaluate_checkpoint

    result = evaluate_checkpoint(
        arguments.checkpoint,
        split=arguments.split,
        output=arguments.output,
        pictures=arguments.pictures,
        configure=lambda config: override(config, arguments.overrides),
    )
    print(result.table())
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Segment images into pictures, or into a benchmark's archive."""
    from ranet_jax.inference.files import predict_files
    from ranet_jax.inference.model import load

    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    if arguments.submission is not None:
        from ranet_jax.inference.submission import FORMATS, write_submission

        count = write_submission(model, arguments.submission, arguments.images, arguments.output)
        print(f"{count} label images are in {arguments.output}.")
        wanted = FORMATS[arguments.submission].num_images
        if count != wanted:
            print(
                f"The server of {arguments.submission} scores all {wanted} images of its test set."
            )
        return 0
    failures = predict_files(model, arguments.images, arguments.output)
    print(f"Written to {arguments.output}.")
    return 1 if failures else 0


def run_port(arguments: argparse.Namespace) -> int:
    """Carry weights over from PyTorch, or back with --reverse."""
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
        from ranet_jax.pipeline import examples as pipeline

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


def run_bench_regions(arguments: argparse.Namespace) -> int:
    """Measure region construction and interaction, or compile them for an absent machine."""
    from ranet_jax.bench import regions
    from ranet_jax.bench.measure import write_results
    from ranet_jax.files import check_json_output

    if arguments.output is not None:
        check_json_output(arguments.output, "results")
    if arguments.target is not None:
        return _compile_regions(arguments)
    _refuse(arguments, ("--batch", "--parts"), "has no meaning without --target")
    size = tuple(arguments.size)
    classes = arguments.num_classes or (19, 59, 171)
    paths = arguments.paths or ("streaming", "dense")
    repeats = 3 if arguments.repeats is None else arguments.repeats
    scene = arguments.scene or "cells"
    costs = regions.measure_regions(size, classes, paths, repeats, scene)
    print(regions.regions_report(costs, size, scene))
    if arguments.output is not None:
        write_results(arguments.output, regions.regions_results(costs, size, scene))
    return 0


def _compile_regions(arguments: argparse.Namespace) -> int:
    from ranet_jax.bench import absent_regions
    from ranet_jax.bench.measure import write_results
    from ranet_jax.bench.targets import open_target

    _refuse(arguments, ("--repeats", "--scene"), "has no meaning with --target, which runs nothing")
    target, size = open_target(arguments.target), tuple(arguments.size)
    classes, paths = arguments.num_classes or (19,), arguments.paths or ("auto",)
    batch = 1 if arguments.batch is None else arguments.batch
    parts = arguments.parts or absent_regions.PARTS
    costs = absent_regions.compile_regions(target, size, classes, paths, batch, parts)
    print(absent_regions.regions_report(costs, size, batch, target))
    if arguments.output is not None:
        results = absent_regions.regions_results(costs, size, batch, target)
        write_results(arguments.output, results)
    return 0


def run_bench_step(arguments: argparse.Namespace) -> int:
    """Compile a training step for an absent machine, beside the same without a context block."""
    from ranet_jax.bench import step
    from ranet_jax.bench.measure import write_results
    from ranet_jax.bench.targets import open_target
    from ranet_jax.files import check_json_output

    if arguments.output is not None:
        check_json_output(arguments.output, "results")
    config = override(load_config(arguments.config), arguments.overrides)
    target, classes = open_target(arguments.target), arguments.num_classes
    if classes is None:
        classes = len(config.loss.class_weights) or 19
    costs = step.compile_steps(config, target, classes)
    print(step.steps_report(costs, config, target, classes))
    if arguments.output is not None:
        write_results(arguments.output, step.steps_results(costs, config, target, classes))
    return 0


def run_bench_heads(arguments: argparse.Namespace) -> int:
    """Measure context blocks."""
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


def run_reproduce(arguments: argparse.Namespace) -> int:
    """Train and measure the rows of a table of the paper."""
    from ranet_jax import reproduce

    config = load_config(arguments.config or str(reproduce.base_config(arguments.data)))
    config.data.name = arguments.data
    if arguments.data_dir is not None:
        config.data.data_dir = arguments.data_dir
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise UserError(f"--steps is {arguments.steps}; choose 1 or more.")
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


def run_inspect(arguments: argparse.Namespace) -> int:
    """Print the parameters and the sizes of features."""
    from ranet_jax.inspection import inspect_config

    config = override(load_config(arguments.config), arguments.overrides)
    check_config(config)
    print(inspect_config(config, arguments.num_classes, arguments.parameters))
    return 0
