"""The types that pickles may name, which hold only data, and the stand-in for each of them here.

Mappings become dictionaries and sequences become lists. Arrays and tensors become `Stored`, which
describes what they hold and reads it on demand. Every other object becomes a record of its type's
name and of what it was made from.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranet_jax.porting.stored import (
    BFLOAT16,
    Array,
    Damaged,
    DType,
    Piece,
    Storage,
    Stored,
    Tensor,
    Unusual,
    whole_numbers,
)


class Refused(Exception):
    """The pickle names a type that may hold more than data; the message is its name."""


@dataclass(frozen=True)
class Name:
    """A name on the list below, `module.attribute`."""

    text: str


@dataclass
class Record:
    """An object of which only its type's name and what it was made from are known."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


def mapping(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dictionary of pairs, whose keys must be quick to hash and compare.

    Raises:
      Damaged: the elements are not pairs, or have other keys.
    """
    found = {}
    for pair in pairs:
        key, value = pair
        if not (_is_short_tuple(key) or _is_key(key)):
            raise Damaged
        found[key] = value
    return found


def _is_short_tuple(key: Any) -> bool:
    """Whether a key is a tuple of a few parts that do not share hashes with other values."""
    if not isinstance(key, tuple) or len(key) > 8:
        return False
    whole = [part for part in key if isinstance(part, int)]
    others = [part for part in key if not isinstance(part, int | float)]
    return (
        len(whole) + len(others) == len(key)
        and all(-(2**60) < part < 2**60 for part in whole)
        and all(map(_is_key, others))
    )


def _is_key(value: Any) -> bool:
    """Whether a value is always quick to hash and to compare, however often that is done."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, str | bytes):
        return len(value) <= 1000
    return value is None or isinstance(value, float | Name)


# ------------------------------------------------------------------------------ stand-ins


def _mapping(*arguments: Any) -> dict[Any, Any]:
    given = arguments[0] if arguments else {}
    if isinstance(given, tuple) and given and isinstance(given[0], str):
        return mapping(arguments)  # addict's items
    return mapping(given.items() if isinstance(given, dict) else given)


def _default_mapping(*arguments: Any) -> dict[Any, Any]:
    return _mapping(*arguments[1:])


def _sequence(*arguments: Any) -> list[Any]:
    if arguments and not isinstance(arguments[0], list | tuple):
        raise Damaged
    return list(arguments[0]) if arguments else []


def _size(lengths: Any = ()) -> tuple[int, ...]:
    return whole_numbers(lengths)


def _bytes(text: Any = b"", encoding: Any = "latin1") -> bytes | Piece:
    if isinstance(text, Piece):
        return text
    if isinstance(text, str) and encoding in ("latin1", "latin-1"):
        return text.encode("latin1")
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    raise Damaged


def _path(*parts: Any) -> str:
    return "/".join(part for part in parts if isinstance(part, str))


def _attribute(owner: Any = None, name: Any = None, *_: Any) -> Name:
    """The form in which protocols before 4 name a method."""
    if not isinstance(owner, Name) or not isinstance(name, str):
        raise Refused("builtins.getattr")
    return find(owner.text, name)


def _instance(kind: Any, base: Any, state: Any) -> Any:
    """An object of protocols 0 and 1."""
    if not isinstance(kind, Name):
        raise Damaged
    return build(kind, () if state is None else (state,))


def _dtype(code: Any, *_: Any) -> DType:
    if not isinstance(code, str):
        raise Damaged
    return DType(code)


def _scalar(dtype: Any, content: Any = b"") -> Array:
    array = Array()
    array.fill((), dtype, False, content)
    return array


def _empty_array(*_: Any) -> Array:
    return Array()


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill(shape, dtype, order == "F", content)
    return array


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    (offset,) = whole_numbers([offset])
    shape, strides = whole_numbers(shape), whole_numbers(strides)
    if len(shape) != len(strides) or not isinstance(storage, Storage):
        raise Damaged
    return Tensor(storage, offset, shape, strides, storage.dtype)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any, hooks: Any, dtype: Any
) -> Tensor:
    if not isinstance(dtype, Name):
        raise Damaged
    tensor = _tensor(storage, offset, shape, strides)
    tensor.dtype = TENSOR_DTYPES.get(dtype.text)
    return tensor


def _parameter(tensor: Any, *_: Any) -> Stored:
    if not isinstance(tensor, Stored):
        raise Damaged
    return tensor


def _subclass(make: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a subclass or with attributes; only the tensor itself is taken."""
    if not isinstance(make, Name) or make.text not in _TENSORS or not isinstance(arguments, tuple):
        raise Damaged
    return _TENSORS[make.text](*arguments)


_TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_UNUSUAL = (
    *("qtensor", "sparse_tensor", "sparse_csr_tensor", "meta_tensor_no_storage", "nested_tensor"),
)

# ------------------------------------------------------------------------------ the list

TENSOR_DTYPES: dict[str, np.dtype] = {
    **{f"torch.float{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
    **{f"torch.int{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"torch.uint{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    "torch.bool": np.dtype(bool),
    "torch.bfloat16": BFLOAT16,
}
# Size and, if it is usual, dtype of the elements of each of PyTorch's storage types.
STORAGES: dict[str, tuple[int, np.dtype | None]] = {
    **{
        f"{name}Storage": (
            TENSOR_DTYPES[f"torch.{dtype}"].itemsize,
            TENSOR_DTYPES[f"torch.{dtype}"],
        )
        for name, dtype in {
            **{"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16"},
            **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"},
            "Bool": "bool",
        }.items()
    },
    "UntypedStorage": (1, np.dtype("u1")),
    "ComplexFloatStorage": (8, None),
    "ComplexDoubleStorage": (16, None),
    "QInt8Storage": (1, None),
    "QUInt8Storage": (1, None),
    "QInt32Storage": (4, None),
    "QUInt4x2Storage": (1, None),
    "QUInt2x4Storage": (1, None),
}

_BUILDERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            *("builtins.dict", "collections.OrderedDict", "collections.Counter"),
            *("addict.addict.Dict", "easydict.EasyDict", "yacs.config.CfgNode"),
            *("fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
            *("mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict"),
            "pytorch_lightning.utilities.parsing.AttributeDict",
            "lightning_fabric.utilities.data.AttributeDict",
            "lightning.fabric.utilities.data.AttributeDict",
        ),
        _mapping,
    ),
    "collections.defaultdict": _default_mapping,
    **dict.fromkeys(
        ("builtins.list", "builtins.set", "builtins.frozenset", "collections.deque"), _sequence
    ),
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _instance,
    "builtins.getattr": _attribute,
    "torch.Size": _size,
    "numpy.dtype": _dtype,
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    **{
        f"numpy.{core}.{name}": build
        for core in ("core", "_core")
        for name, build in {
            "multiarray.scalar": _scalar,
            "multiarray._reconstruct": _empty_array,
            "numeric._frombuffer": _array,
        }.items()
    },
    **{
        f"{module}.{name}": _path
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}
_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
_RECORDS = {
    *(f"builtins.{name}" for name in ("int", "float", "str", "bool", "tuple", "complex", "object")),
    *("builtins.slice", "builtins.range", "argparse.Namespace", "types.SimpleNamespace"),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("typing.Any", "numpy.ndarray", _HISTORY),
    # Its instances name those of its methods that summarise it.
    *(f"{_HISTORY}.{method}" for method in ("min", "max", "current", "mean")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Integer", "Float", "String", "Boolean")),
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    *(
        "torch.device",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
    ),
    *TENSOR_DTYPES,
    *(f"torch.{name}" for name in ("float8_e4m3fn", "float8_e5m2", "complex64", "complex128")),
    *(f"torch.{name}" for name in ("qint8", "quint8", "qint32")),
    *(f"torch.per_{name}_affine" for name in ("tensor", "channel")),
    *(
        f"{module}.{name}"
        for module in ("torch", "torch.cuda", "torch.storage")
        for name in STORAGES
    ),
    *(f"numpy.{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)),
}
# The names that Python 2 and the protocols of its time have for them.
_RENAMED = {
    "copy_reg._reconstructor": "copyreg._reconstructor",
    "__builtin__.unicode": "builtins.str",
    "__builtin__.long": "builtins.int",
    "__builtin__.xrange": "builtins.range",
}


def find(module: Any, attribute: Any) -> Name:
    """The name on the list.

    Raises:
      Refused: it is not on the list.
    """
    if not (isinstance(module, str) and isinstance(attribute, str)):
        raise Damaged
    name = f"{module}.{attribute}"
    name = _RENAMED.get(name, name)
    if module == "__builtin__":
        name = name.replace("__builtin__.", "builtins.")
    if name in _BUILDERS or name in _RECORDS or _is_unusual(name):
        return Name(name)
    if len(name) > 200 or not name.isprintable() or " " in name:
        raise Damaged
    raise Refused(name)


def _is_unusual(name: str) -> bool:
    return name.removeprefix("torch._utils._rebuild_") in _UNUSUAL


def build(name: Name, arguments: tuple[Any, ...]) -> Any:
    """The stand-in for an object of a type on the list.

    Raises:
      Damaged: the type does not take such arguments.
    """
    if name.text in _BUILDERS:
        return _BUILDERS[name.text](*arguments)
    if _is_unusual(name.text):
        return Unusual()
    return Record(name.text, arguments)


def set_state(value: Any, state: Any) -> None:
    """Give a built object the rest of what it holds; attributes of mappings are left out.

    Raises:
      Damaged: it is not such an object, or the state does not suit it.
    """
    if isinstance(value, Array):
        if not isinstance(state, tuple) or len(state) < 4:
            raise Damaged
        value.fill(*state[-4:])
    elif isinstance(value, DType):
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in tuple("<>|="):
            raise Damaged
        value.order = state[1]
    elif isinstance(value, Record):
        value.state = state
    elif not isinstance(value, dict | list | Tensor | Unusual):
        raise Damaged
