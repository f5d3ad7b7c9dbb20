"""What a file format says of itself, so that nothing else needs to know it by name."""

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
      name: what chooses it.
      runtime: the software that runs its files, for the user to read.
      write: writes a program and its description to a path; it returns what the user should know of
        the file besides, in one sentence, or "".
      open: loads a file in its own runtime.
      usage: Python code that runs its files, `{file}`.
      suffix: how names of its files end; "" for a directory.
      packages: modules that it needs, besides those that ranet_jax needs.
      extra: of ranet_jax, that installs them.
      any_batch: whether a file takes batches of any size, or single images in a batch of one.
      any_size: whether there are files for images of any size.
      holds_description: whether the description is in the file; it lies beside the file otherwise.
      quantize: makes the kernels of a file take 8 bits; None where half precision, which needs no
        tools, is what there is.
      quantize_packages: modules that it needs besides.
      region_path: the value of `config.model.region_path` that its runtime suits; None for the
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
        """The name of the quantisation that there is for its files."""
        return "float16" if self.quantize is None else "int8"
