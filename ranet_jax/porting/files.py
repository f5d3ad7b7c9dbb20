"""State dicts in files: PyTorch's own (.pth, .pt), safetensors and NumPy archives."""

import contextlib
import importlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ranet_jax.errors import UserError
from ranet_jax.files import paths, reason, replacing
from ranet_jax.files.paths import as_path, check_bucket, exists, local_copy
from ranet_jax.porting.array_files import read_npz, read_safetensors
from ranet_jax.porting.descriptions import Description, describe
from ranet_jax.porting.pickled_types import Refused
from ranet_jax.porting.shards import find_index, read_shards
from ranet_jax.porting.stored import BFLOAT16, Damaged, Stored, Tensors, as_array
from ranet_jax.porting.torch_files import read_torch
from ranet_jax.porting.wrappers import choose_state_dict, without_prefixes

StateDict = dict[str, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Tensors of a file by name, and what else the file says about its network."""

    tensors: Tensors
    description: Description


@dataclass
class _Named(Stored):
    """A tensor that names its file and itself in errors if it cannot be read."""

    path: pathlib.Path
    name: str
    value: np.ndarray | Stored

    def __post_init__(self) -> None:
        self.shape, self.dtype = self.value.shape, self.value.dtype

    def check(self) -> None:
        """Refuse a tensor whose elements are not numbers of a type that NumPy can hold."""
        if self.dtype is None or (self.dtype.kind not in "fiub" and self.dtype != BFLOAT16):
            raise UserError(
                f"{self.path} holds {self.name!r}, which is not a dense tensor of a usual type;"
                " save the network in float32."
            )

    def read(self) -> np.ndarray:
        """The tensor's values in its own dtype, native byte order."""
        try:
            array = as_array(self.value)
        except Damaged as error:
            raise _damaged(self.path) from error
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_state_dict(
    path: str | os.PathLike[str], prefix: str | None = None, part: str | None = None
) -> StateDict:
    """Tensors of a file by name, without anything that a training script wrapped around them.

    Args:
      path: .pth, .pt, .pth.tar, .ckpt, .bin or .pkl of PyTorch, .safetensors or .npz; or the index
        of several such files (`model.safetensors.index.json`), or the directory that holds it.
      prefix: take only the tensors whose names begin with it, such as those of a part of a network,
        and remove it from their names.
      part: names that lead to the state dict among what the file holds, with dots, such as
        "checkpoint.model"; needed if the file holds several.

    Returns:
      Arrays in the dtypes they are stored in.

    Raises:
      UserError: the file is missing, has no known format, is cut off, or holds code, no tensors or
        several state dicts of which none is chosen.
    """
    with open_state_dict(path, prefix, part) as tensors:
        return {name: as_array(tensor) for name, tensor in tensors.items()}


@contextlib.contextmanager
def open_state_dict(
    path: str | os.PathLike[str], prefix: str | None = None, part: str | None = None
) -> Iterator[Tensors]:
    """Like `read_state_dict`, but tensors stay in the file and are read again each time.

    If a file is many times larger than a network, only that network's tensors take memory. They
    can be read until the context is left.
    """
    with open_weights(path, prefix, part) as weights:
        yield weights.tensors


@contextlib.contextmanager
def open_weights(
    path: str | os.PathLike[str], prefix: str | None = None, part: str | None = None
) -> Iterator[Weights]:
    """Like `open_state_dict`, with what the file says about its network; an index says nothing."""
    with contextlib.ExitStack() as copies:
        tensors, description = _open(as_path(path), part, copies)
        if prefix is not None:
            taken = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if not taken:
                raise UserError(
                    f"{path} holds no tensor whose name begins with {prefix!r}; one of its names"
                    f" is {next(iter(tensors))!r}."
                )
            tensors = taken
        for tensor in tensors.values():
            tensor.check()
        yield Weights(without_prefixes(tensors), description)


def read_tensors(path: paths.Path) -> StateDict:
    """Tensors of a file by all of their names."""
    with contextlib.ExitStack() as copies:
        tensors, _ = _open(path, None, copies)
        return {name: tensor.read() for name, tensor in tensors.items()}


def _open(
    path: paths.Path, part: str | None, copies: contextlib.ExitStack
) -> tuple[dict[str, _Named], Description]:
    """Open a file or an index; copies of files on a store last as long as the stack."""
    index = find_index(path)
    if index is not None:
        return read_shards(index, lambda shard: _open(shard, part, copies)[0]), Description()
    return _open_file(copies.enter_context(local_copy(path)), part)


def _open_file(path: pathlib.Path, part: str | None) -> tuple[dict[str, _Named], Description]:
    found = _read_file(path)
    try:
        return _named(choose_state_dict(found, part, path), path), describe(found)
    except Damaged as error:
        raise _damaged(path) from error


def _read_file(path: pathlib.Path) -> Any:
    """The contents of a file on this machine; arrays may still be unread.

    Raises:
      UserError: the file is missing, has no known format, is cut off, or holds code.
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{path} is missing or is not a file; name a file of weights.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); name a file of weights."
        ) from error
    read = next((READERS[end] for end in READERS if path.name.lower().endswith(end)), None)
    if read is None:
        raise UserError(
            f"{path} does not end in any of {', '.join(READERS)}; name a file of weights."
        )
    if empty:
        raise UserError(f"{path} is empty; copy or download it again.")
    try:
        return read(path)
    except Damaged as error:
        raise _damaged(path) from error
    except Refused as error:
        raise UserError(
            f"{path} is refused, because loading it would execute {error}; save only the"
            " network's state_dict()."
        ) from error


def import_optional(name: str, purpose: str, packages: str | None = None) -> Any:
    """A library that only porting needs.

    Args:
      name: name of the module.
      purpose: what it is needed for.
      packages: what to install; the module's name if not given.

    Raises:
      UserError: the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"To {purpose}, {name} is needed and cannot be imported ({error}); install it with"
            f" `pip install {packages or name}`."
        ) from error


def _damaged(path: pathlib.Path) -> UserError:
    return UserError(
        f"{path} is damaged or is not a {path.suffix} file; copy or download it again."
    )


READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    **dict.fromkeys((".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".pkl"), read_torch),
    ".safetensors": read_safetensors,
    ".npz": read_npz,
}


def _named(found: Mapping[Any, Any], path: pathlib.Path) -> dict[str, _Named]:
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray | Stored):
            raise UserError(
                f"{path} holds {name!r}, which is not a tensor; save the network's state_dict()."
            )
        if not name.isprintable():
            raise UserError(f"{path} holds {name!r}, which is not a valid name; rename the tensor.")
        tensors[name] = _Named(path, name, value)
    return tensors


def to_torch(value: np.ndarray) -> Any:
    """A PyTorch tensor with the array's values and dtype."""
    torch = import_optional("torch", "make tensors")
    value = np.array(value, order="C")
    if value.dtype == BFLOAT16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def write_state_dict(path: str | os.PathLike[str], tensors: StateDict) -> None:
    """Write tensors by name to a new .pth or .safetensors file, whole or not at all.

    Raises:
      UserError: the file exists, cannot be written, or has another ending.
    """
    path = as_path(path)
    if path.suffix not in WRITERS:
        raise UserError(f"{path} does not end in any of {', '.join(WRITERS)}; choose such a file.")
    check_bucket(path)
    if exists(path):
        raise UserError(f"{path} exists already; choose another file.")
    try:
        with replacing(path) as partial:
            WRITERS[path.suffix](partial, tensors)
            _compare(path, READERS[path.suffix](partial), tensors)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path} cannot be written ({reason(error)}); choose another file."
        ) from error


def _compare(path: paths.Path, found: Mapping[str, Any], tensors: StateDict) -> None:
    """Refuse a written file, before it gets its name, unless it is the same bit for bit."""
    wrong = [name for name in tensors if name not in found]
    wrong += [
        name
        for name, tensor in found.items()
        if name not in tensors or not _same(as_array(tensor), tensors[name])
    ]
    if wrong:
        raise UserError(
            f"{path} is not written, because {wrong[0]!r} changed when the file was read back;"
            " check the disk."
        )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    same_kind = (one.dtype, one.shape) == (other.dtype, other.shape)
    return same_kind and one.tobytes() == other.tobytes()


def _write_torch(path: pathlib.Path, tensors: StateDict) -> None:
    torch = import_optional("torch", f"write {path}")
    torch.save({name: to_torch(value) for name, value in tensors.items()}, path)


def _write_safetensors(path: pathlib.Path, tensors: StateDict) -> None:
    path.touch()
    mode = path.stat().st_mode  # as of all new files; safetensors lets only the owner read
    safetensors.numpy.save_file(
        {name: np.array(value, order="C") for name, value in tensors.items()}, path
    )
    path.chmod(mode)


WRITERS: dict[str, Callable[[pathlib.Path, StateDict], None]] = {
    ".pth": _write_torch,
    ".safetensors": _write_safetensors,
}
