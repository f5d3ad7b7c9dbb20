"""State dicts in files: PyTorch's own (.pth, .pt), safetensors and NumPy archives."""

import importlib
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from ranet_jax.errors import UserError

StateDict = dict[str, np.ndarray]
# Where training scripts keep the weights beside the optimiser's state, the epoch and so on.
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "weights")
# What wrapping a network in another module puts before every name.
PREFIXES = ("module.", "model.", "backbone.", "encoder.")


def read_state_dict(path: pathlib.Path) -> StateDict:
    """Tensors of a file by name, without what a training script wrapped around them.

    Raises:
      UserError: the file is missing, of no known format, cut off, holds code or no tensors.
    """
    return _without_prefix(read_tensors(path))


def read_tensors(path: pathlib.Path) -> StateDict:
    """The same with all of each name."""
    if not path.is_file():
        raise UserError(f"{path} is missing, or no file; name a file of weights.")
    if path.suffix not in READERS:
        raise UserError(
            f"{path} has none of the endings {', '.join(READERS)}; name a file of weights."
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; copy or download it again.")
    return _tensors(_unwrap(READERS[path.suffix](path)), path)


def import_optional(name: str, purpose: str) -> Any:
    """A library that only porting needs.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"To {purpose}, {name} is needed and cannot be imported ({error}); install it with"
            f" `pip install {name}`."
        ) from error


def _read_torch(path: pathlib.Path) -> Any:
    torch = import_optional("torch", f"read {path}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # PyTorch itself compares no checksums
                    raise _damaged(path)
        with warnings.catch_warnings(action="ignore"):  # of old pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        if named is None:
            raise _damaged(path) from error
        raise UserError(
            f"{path} is refused: to load it would be to execute {named[1]}; save the network's"
            " state_dict() alone."
        ) from error
    except Exception as error:
        raise _damaged(path) from error


def _read_safetensors(path: pathlib.Path) -> Any:
    try:
        return safetensors.numpy.load_file(path)
    except AttributeError as error:  # NumPy has no such type
        raise UserError(
            f"{path} holds tensors of a type that NumPy lacks; save the network in float32."
        ) from error
    except Exception as error:
        raise _damaged(path) from error


def _read_npz(path: pathlib.Path) -> Any:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:
        if "Object arrays" in str(error):
            raise UserError(
                f"{path} is refused: to load its Python objects would be to execute code; save"
                " arrays of numbers alone."
            ) from error
        raise _damaged(path) from error


def _damaged(path: pathlib.Path) -> UserError:
    return UserError(f"{path} is damaged, or is no {path.suffix} file; copy or download it again.")


READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}


def _unwrap(found: Any) -> Any:
    while isinstance(found, Mapping):
        inner = next((found[k] for k in WRAPPERS if isinstance(found.get(k), Mapping)), None)
        if inner is None:
            break
        found = inner
    return found


def _tensors(found: Any, path: pathlib.Path) -> StateDict:
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path} holds no state dict; save the network's state_dict().")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not hasattr(value, "shape"):
            raise UserError(
                f"{path} holds {name!r}, which is no tensor; save the network's state_dict()."
            )
        tensors[name] = _to_numpy(value, name, path)
    return tensors


def _to_numpy(value: Any, name: str, path: pathlib.Path) -> np.ndarray:
    """The tensor's values; half precision widens to float32, which loses nothing."""
    wrong = UserError(
        f"{path} holds {name!r}, a tensor that is not dense and real; save the network in float32."
    )
    if not isinstance(value, np.ndarray):
        dense = str(value.layout) == "torch.strided" and not value.is_meta
        if value.is_quantized or not dense or value.is_complex():
            raise wrong
        value = value.detach()
        narrow = value.is_floating_point() and value.dtype.itemsize < 4
        value = (value.float() if narrow else value).numpy()
    if value.dtype in (np.float16, ml_dtypes.bfloat16):
        return value.astype(np.float32)
    if value.dtype.kind not in "fiub":
        raise wrong
    return value


def _without_prefix(tensors: StateDict) -> StateDict:
    while True:
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}


def write_state_dict(path: pathlib.Path, tensors: StateDict) -> None:
    """Write tensors by name to a new .pth or .safetensors file, whole or not at all.

    Raises:
      UserError: the file exists, cannot be written, or has another ending.
    """
    if path.suffix not in WRITERS:
        raise UserError(f"{path} ends in none of {', '.join(WRITERS)}; choose such a file.")
    if path.exists():
        raise UserError(f"{path} exists already; choose another file.")
    partial = path.with_name(f".{path.name}.partial")
    try:
        WRITERS[path.suffix](partial, {k: np.array(v, order="C") for k, v in tensors.items()})
        os.replace(partial, path)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error}); choose another file.") from error


def _write_torch(path: pathlib.Path, tensors: StateDict) -> None:
    torch = import_optional("torch", f"write {path}")
    torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)


def _write_safetensors(path: pathlib.Path, tensors: StateDict) -> None:
    safetensors.numpy.save_file(tensors, path)


WRITERS: dict[str, Callable[[pathlib.Path, StateDict], None]] = {
    ".pth": _write_torch,
    ".safetensors": _write_safetensors,
}
