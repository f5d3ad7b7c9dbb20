"""`ranet port`: carry weights over from PyTorch, or back."""

import argparse
import functools
import os
from typing import Any

from ranet_jax.cli.arguments import PathText, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import read_config
from ranet_jax.display.output import tell
from ranet_jax.display.tables import show
from ranet_jax.errors import UserError
from ranet_jax.files import check_suffix, paths

EXAMPLES = (
    "ranet port resnet101.pth --model resnet101 --output weights/resnet101 --verify",
    "ranet port runs/demo --reverse --format safetensors --output demo.safetensors",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "port", help="carry weights over from PyTorch, or back", **with_examples(*EXAMPLES)
    )
    parser.add_argument(
        "source",
        type=PathText,
        help="state dict: .pth, .pt, .ckpt, .bin, .pkl, .safetensors or .npz, or the index of"
        " several files; with --reverse, a checkpoint",
    )
    parser.add_argument(
        "--model", type=os.path.expanduser, metavar="NAME", help="network, or a file of configs/"
    )
    parser.add_argument("--output", type=PathText, help="new directory; with --reverse, new file")
    parser.add_argument(
        "--output-stride",
        type=int,
        metavar="N",
        help="output stride (default: the network's usual one)",
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="give the classifier another number of classes, and initial values",
    )
    parser.add_argument(
        "--allow-missing", metavar="REGEX", help="names of arrays that SOURCE may lack"
    )
    parser.add_argument(
        "--from", metavar="NAME", help="which state dict to take, if SOURCE holds several"
    )
    parser.add_argument(
        "--all", action="store_true", help="report everything that does not fit, not only 40 lines"
    )
    parser.add_argument("--prefix", help="take only the tensors whose names begin with this")
    parser.add_argument(
        "--dataset", metavar="NAME", help="prepared data set with the segmenter's classes"
    )
    parser.add_argument(
        "--data-dir",
        type=os.path.expanduser,
        help="where the data set is (default: TFDS's directory)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare every stage with PyTorch's, before writing"
    )
    parser.add_argument(
        "--reverse", action="store_true", help="write a state dict from a checkpoint"
    )
    parser.add_argument(
        "--format", choices=("pth", "safetensors"), help="with --reverse: format to write"
    )
    parser.add_argument(
        "--naming", metavar="NAME", help="with --reverse: library whose names to use"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry weights over from PyTorch, or back with --reverse."""
    return _reverse(arguments) if arguments.reverse else _port(arguments)


def _port(arguments: argparse.Namespace) -> int:
    from ranet_jax import porting
    from ranet_jax.hub.cards import port_card
    from ranet_jax.porting import verify

    refuse(arguments, ("--format", "--naming"), "belongs to --reverse")
    for option in ("model", "output"):
        if getattr(arguments, option) is None:
            raise UserError(f"`ranet port` needs --{option}; see `ranet port --help`.")
    output, source = arguments.output, arguments.source
    paths.check_bucket(output)
    if paths.exists(output):
        raise UserError(f"{output} exists already; choose another directory.")
    is_config = arguments.model.endswith(".py")
    with porting.open_weights(source, arguments.prefix, getattr(arguments, "from")) as found:
        try:
            ported = porting.port_state_dict(
                found.tensors,
                read_config(arguments.model, []) if is_config else arguments.model,
                arguments.output_stride,
                arguments.allow_missing,
                arguments.num_classes,
                found.description.config,
            )
        except porting.Misfit as misfit:
            raise UserError(misfit.report()) if arguments.all else misfit from misfit
        tell(ported.summary())
        differences = None
        if arguments.verify:
            differences = verify.verify(ported, found.tensors)
            show(verify.report(differences), verify.tables(differences))
            if not verify.passes(differences):
                raise UserError(
                    f"{source} gives other results here than in PyTorch (they differ by more than"
                    f" {verify.TOLERANCE:g} in float32); nothing is written."
                )
    config = ported.network.config
    dataset = config and found.description.dataset(config.data.name, ported.num_classes)
    if arguments.dataset is not None:
        from ranet_jax.pipeline import examples

        if config is None:
            raise UserError(f"{ported.network.name} is not a segmenter; leave --dataset out.")
        data = config.data
        data.name, data.data_dir = arguments.dataset, arguments.data_dir
        dataset = examples.dataset_metadata(examples.open_dataset(data))
    card = functools.partial(port_card, paths.absolute(output).name, ported, differences)
    porting.write_ported(output, ported, source, dataset, card)
    tell(f"Written to {output}.")
    show_document({"output": output, **ported.to_json(), "differences": differences or []})
    return 0


def _reverse(arguments: argparse.Namespace) -> int:
    forward = ("--model", "--output-stride", "--num-classes", "--allow-missing", "--prefix")
    others = ("--from", "--dataset", "--data-dir", "--verify", "--all")
    refuse(arguments, (*forward, *others), "does not go with --reverse")
    if arguments.format is None:
        raise UserError("--reverse needs --format pth or --format safetensors.")
    checkpoint = arguments.source
    name = f"{paths.absolute(checkpoint).name}.{arguments.format}"
    output = paths.as_path(arguments.output or name)
    check_suffix(output, f".{arguments.format}")
    write_state_dict(checkpoint, output, arguments.naming)
    return 0


def write_state_dict(checkpoint: paths.Path, output: paths.Path, naming: str | None = None) -> str:
    """Write the weights of a checkpoint; print and return which naming they follow."""
    from ranet_jax import porting

    chosen, left_out = porting.reverse(checkpoint, output, naming)
    tell(f"Written to {output}, in the names of {chosen}; read back, they are the same.")
    if left_out:
        tell(f"{len(left_out)} arrays that the ported file lacked are left out.")
    show_document({"output": output, "naming": chosen, "left_out": left_out})
    return chosen
