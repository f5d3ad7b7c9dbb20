"""Advice on weights that do not fit a network: they have a prefix, or are of another network."""

from collections import Counter

from ranet_jax.errors import UserError
from ranet_jax.porting.coverage import choose_naming, match
from ranet_jax.porting.modules import array_shapes, build_module, count_classes, source_shapes
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import NETWORKS, Network, find_network
from ranet_jax.porting.stored import Tensors

# The share of the names behind a prefix that must be a network's for the prefix to be advised.
_SHARE = 0.9


def advise(tensors: Tensors, network: Network) -> str:
    """A sentence on what to give instead, or an empty text if nothing is known to fit."""
    if not tensors:
        return ""
    prefix = find_prefix(tensors, network.namings)
    part = _behind(tensors, prefix)
    give = (
        f"The file has the network's names behind a prefix: give the prefix {prefix} to take only"
        " the tensors whose names begin with it."
    )
    if prefix and _fitting(part, network):
        return give
    asked = network.name if network.name in NETWORKS else "the config's segmenter"
    others = [find_network(name) for name in NETWORKS if name != network.name]
    for whole in (True, False):  # all of a segmenter's weights before its backbone's alone
        for other in others:
            own = "" if whole else find_prefix(tensors, other.namings)
            if naming := _fitting(_behind(tensors, own), other):
                behind = f", behind the prefix {own}" if own else ""
                return (
                    f"These weights belong to {other.name}, in the names of {naming.name}{behind};"
                    f" you asked for {asked}."
                )
    return give if prefix and _share(part, network) >= _SHARE else ""


def find_prefix(tensors: Tensors, namings: tuple[Naming, ...]) -> str:
    """The prefix whose removal makes most names a network's; empty if no prefix is better."""

    def known(prefix: str) -> int:
        names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
        return max(sum(map(naming.knows, names)) for naming in namings)

    begun = Counter(
        ".".join(parts[:length]) + "."
        for parts in (name.split(".") for name in tensors)
        for length in range(1, min(len(parts), 5))
    )
    large = [prefix for prefix, count in begun.items() if 3 * count >= len(tensors)]
    return max(["", *large], key=lambda prefix: (known(prefix), -len(prefix)))


def _behind(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _share(tensors: Tensors, network: Network) -> float:
    """The share of the names that are a network's."""
    naming = choose_naming(network.namings, tensors)
    return sum(map(naming.knows, tensors)) / len(tensors)


def _fitting(tensors: Tensors, network: Network) -> Naming | None:
    """The naming in which the tensors are exactly the network's; None if there is none."""
    if _share(tensors, network) < 1:
        return None
    naming = choose_naming(network.namings, tensors)
    source = source_shapes(tensors, naming)
    try:
        classes = count_classes(network, source)
        module = build_module(network, network.output_stride, classes, source)
    except UserError:
        return None
    found = match(tensors, naming, array_shapes(module))
    return None if found.unexpected or found.mismatching or found.absent else naming
