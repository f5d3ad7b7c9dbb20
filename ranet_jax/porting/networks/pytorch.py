"""Networks of torchvision, timm and mmsegmentation, to compare with."""

import importlib.util
import sys
import types
import warnings
from typing import Any

from ranet_jax.errors import UserError
from ranet_jax.porting.files import import_optional


def import_torchvision() -> Any:
    """Import torchvision, even with a build of PyTorch that cannot load its detection operators.

    Raises:
      UserError: torchvision is not installed.
    """
    torch = import_optional("torch", "verify a network")
    try:
        return import_optional("torchvision", "verify a network")
    except RuntimeError:  # it describes operators that only its compiled library declares
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor b, Tensor s, float t) -> Tensor")
        return import_optional("torchvision", "verify a network")


def timm_network(name: str, num_classes: int | None, **settings: Any) -> Any:
    """A network of timm with random weights.

    Raises:
      UserError: timm is not installed, or has no network with these settings.
    """
    import_torchvision()  # timm imports it
    timm = import_optional("timm", "verify a network")
    try:
        return timm.create_model(name, num_classes=num_classes or 0, **settings)
    except AssertionError as error:
        described = " and ".join(f"{key.replace('_', ' ')} {settings[key]}" for key in settings)
        raise UserError(
            f"timm has no {name} of {described} to compare with; leave the comparison out."
        ) from error


class _Operators(types.ModuleType):
    """A stand-in for mmcv's compiled operators, which are looked up by name but not called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def import_mmsegmentation(operator: str | None = None) -> Any:
    """Import mmsegmentation's networks, even with mmcv-lite, which has no compiled operators.

    Args:
      operator: the compiled operator of mmcv that is needed, if one is.

    Raises:
      UserError: mmsegmentation or the operator is not installed.
    """
    import_torchvision()  # mmsegmentation imports timm, which imports it
    purpose, packages = "verify a network", "mmsegmentation 'mmcv-lite<2.2' ftfy regex"
    with warnings.catch_warnings(action="ignore"):  # about what is deprecated in these releases
        import_optional("mmcv", purpose, packages)
        if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
            sys.modules["mmcv._ext"] = _Operators("mmcv._ext")
        library = import_optional("mmseg.models", purpose, packages)
    if operator is not None and getattr(sys.modules["mmcv._ext"], operator, None) is None:
        raise UserError(
            f"mmcv-lite has no {operator}, which mmsegmentation needs to run the network to compare"
            " with; install mmcv instead, or leave the comparison out."
        )
    return library
