"""The declaration of a file format, so that no other code needs to know the format by name."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ranet_jax.inference.export.program import Program
from ranet_jax.inference.runtimes import Runtime


@dataclass(frozen=True)
class Format:
    """A format of exported programs.

    Attributes:
      name: the name that users choose it by.
      runtime: name of the software that runs its files, for the user to read.
      write: writes a program and its description to a path; it returns what else the user should
        know about the file, in one sentence, or "".
      open: loads a file in its own runtime.
      usage: Python code that runs a file, which is written `{file}`.
      suffix: how the names of its files end; "" for a directory.
      packages: modules that it needs, besides those that ranet_jax needs.
      extra: the extra of ranet_jax that installs them.
      any_batch: whether a file takes batches of any size; otherwise it takes batches of one image.
      any_size: whether a file can be written for images of any size.
      holds_description: whether the file contains the description; otherwise it lies beside it.
      quantize: reduces the kernels of a file to 8 bits; None if the format has half precision
        instead, which needs no tools.
      quantize_packages: further modules that `quantize` needs.
      region_path: the value of `config.model.region_path` that suits its runtime; None for the
        model's own.
    """

    name: str
    runtime: str
    write: Callable[[Program, dict[str, Any], pathlib.Path], str]
    open: Callable[[pathlib.Path], Runtime]
    usage: str
    suffix: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    any_batch: bool = True
    any_size: bool = False
    holds_description: bool = False
    region_path: str | None = None
    quantize: Callable[[pathlib.Path], None] | None = None
    quantize_packages: tuple[str, ...] = ()

    @property
    def quantization(self) -> str:
        """The name of the quantisation that its files support."""
        return "float16" if self.quantize is None else "int8"
