"""Weights that are spread over several files, with an index that says which tensor is in which.

Hugging Face's libraries write `model.safetensors.index.json` beside the files it names; its
`weight_map` has the name of a file for each tensor.
"""

from collections.abc import Callable
from typing import TypeVar

from ranet_jax.errors import UserError
from ranet_jax.files import parse_json, paths

_ENDING = ".index.json"
_Tensor = TypeVar("_Tensor")


def find_index(path: paths.Path) -> paths.Path | None:
    """The index that a path names, directly or as the directory that holds it; else None.

    Raises:
      UserError: the directory holds several indices.
    """
    if path.name.endswith(_ENDING):
        return path
    if not paths.is_dir(path):
        return None
    found = sorted(name for name in paths.list_names(path) if name.endswith(_ENDING))
    if len(found) > 1:
        raise UserError(f"{path} holds several indices, {', '.join(found)}; name one of them.")
    return path / found[0] if found else None


def weight_files(path: paths.Path) -> list[paths.Path]:
    """All files that weights are read from: an index and what it names, or the path alone.

    Raises:
      UserError: the index cannot be read.
    """
    index = find_index(path)
    return [path] if index is None else [index, *(index.parent / name for name in _shards(index))]


def read_shards(
    index: paths.Path, read: Callable[[paths.Path], dict[str, _Tensor]]
) -> dict[str, _Tensor]:
    """The tensors that an index names, in its order.

    Args:
      index: path of the index.
      read: returns the tensors of one file, which may stay unread in it.

    Raises:
      UserError: the index cannot be read, or a file that it names is missing or lacks a tensor.
    """
    tensors: dict[str, _Tensor] = {}
    for shard, names in _shards(index).items():
        path = index.parent / shard
        if not paths.is_file(path):
            raise UserError(f"{path}, which {index.name} names, is missing; download it too.")
        found = read(path)
        lacking = [name for name in names if name not in found]
        if lacking:
            raise UserError(
                f"{path} lacks {len(lacking)} tensors that {index.name} places there, such as"
                f" {lacking[0]!r}; download both again."
            )
        tensors |= {name: found[name] for name in names}
    return tensors


def _shards(index: paths.Path) -> dict[str, list[str]]:
    """Names of the tensors in each file, by the file's name."""
    try:
        content = parse_json(paths.read_bytes(index))
    except OSError as error:
        raise UserError(f"{index} is missing or is not a file; name a file of weights.") from error
    except ValueError as error:
        raise UserError(f"{index} is not JSON ({error}); download it again.") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index} has no weight_map; name the index of a network's weights.")
    shards: dict[str, list[str]] = {}
    for tensor, shard in places.items():
        # An index must not lead out of its directory, nor to itself.
        usual = isinstance(shard, str) and shard.isprintable() and not {"/", "\\"} & set(shard)
        if not usual or shard.endswith(_ENDING) or shard.strip(".") == "":
            raise UserError(
                f"{index} places {tensor!r} in {shard!r}, which is not a file in the same"
                " directory."
            )
        shards.setdefault(shard, []).append(tensor)
    return shards
