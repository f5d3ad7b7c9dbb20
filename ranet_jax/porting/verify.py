"""Proof that a ported network computes what PyTorch computes, stage by stage."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.display.tables import table
from ranet_jax.errors import UserError
from ranet_jax.models import Segmenter
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.files import StateDict, import_optional, to_torch
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.port import Ported, flatten
from ranet_jax.porting.stored import Tensors, as_array

# Largest difference in float32 with which a stage passes, relative to the stage's largest value.
TOLERANCE = 1e-4
MEANING = "Largest difference from PyTorch, relative to the stage's largest value."


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a stage lies from PyTorch's, relative to the stage's largest value."""

    stage: str
    shape: tuple[int, ...]
    float32: float
    float64: float


def verify(ported: Ported, tensors: Tensors) -> list[Difference]:
    """Run PyTorch's network and ours on the same random image, in float32 and in float64.

    Args:
      ported: our network.
      tensors: the state dict that it was made from.

    Returns:
      The differences of every stage.

    Raises:
      UserError: PyTorch or the library to compare with is missing, or no library has the network.
    """
    torch = import_optional("torch", "verify a network")
    name, twin = ported.network.name, ported.network.twin
    if twin is None:
        raise UserError(
            f"None of torchvision, timm, mmsegmentation and segmentation_models.pytorch has {name}"
            " to compare with; leave the comparison out."
        )
    arrays = {path: array.shape for path, array in flatten(ported.variables).items()}
    config = ported.network.config
    settings = {} if config is None else {name: config.model[name] for name in twin.settings}
    model = twin.build(ported.output_stride, ported.num_classes, arrays.get, **settings).eval()
    naming = ported.network.namings[0] if twin.naming is None else twin.naming
    _load(model, _renamed(ported, tensors, naming))
    image = np.random.default_rng(0).normal(size=(1, *twin.size, 3))
    differences: dict[str, list[float]] = {}
    shapes = {}
    for dtype in ("float32", "float64"):
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        model.to(getattr(torch, dtype))
        ours = _our_stages(ported, image, dtype)
        places = {stage: place for stage, place in twin.stages.items() if stage in ours}
        theirs = _their_stages(model, inputs.to(getattr(torch, dtype)), places)
        for stage, expected in theirs.items():
            shapes[stage] = ours[stage].shape
            if ours[stage].shape != expected.shape:
                raise UserError(
                    f"Stage {stage} has shape {ours[stage].shape}, but PyTorch's"
                    f" {expected.shape}; report this as a bug of ranet_jax."
                )
            difference, scale = np.abs(ours[stage] - expected).max(), np.abs(expected).max()
            differences.setdefault(stage, []).append(float(difference / (scale or 1.0)))
    return [Difference(stage, shapes[stage], *pair) for stage, pair in differences.items()]


def passes(differences: list[Difference]) -> bool:
    """Whether every stage lies within the tolerance; a NaN does not."""
    return all(difference.float32 <= TOLERANCE for difference in differences)


def report(differences: Sequence[Difference]) -> str:
    """The differences as lines of text."""
    lines = [f"{'stage':<16}{'shape':<22}{'float32':>10}{'float64':>10}"]
    lines += [
        f"{stage:<16}{shape:<22}{float32:>10}{float64:>10}"
        for stage, shape, float32, float64 in _cells(differences)
    ]
    return "\n".join([*lines, MEANING])


def tables(differences: Sequence[Difference]) -> str:
    """The same as a table in Markdown."""
    header = ("stage", "shape", "float32", "float64")
    return f"{table(header, _cells(differences))}\n\n{MEANING}"


def _cells(differences: Sequence[Difference]) -> list[tuple[str, str, str, str]]:
    return [
        (d.stage, " x ".join(map(str, d.shape[1:])), f"{d.float32:.1e}", f"{d.float64:.1e}")
        for d in differences
    ]


def _renamed(ported: Ported, tensors: Tensors, naming: Naming) -> StateDict:
    """The state dict's own tensors under another library's names, with initial values added."""
    arrays = flatten(ported.variables)
    renamed = to_tensors({path: arrays[path] for path in ported.fresh}, naming)
    for name, tensor in tensors.items():
        entry = ported.naming.to_target(name, arrays.__contains__)
        if entry is None or entry.target is None or entry.target in ported.fresh:
            continue
        target = naming.to_source(entry.target)
        assert target is not None, f"{naming.name} lacks {entry.target}"
        renamed[target.source] = as_array(tensor)
    return naming.with_copies(renamed)


def _load(model: Any, tensors: StateDict) -> None:
    result = model.load_state_dict(
        {name: to_torch(value) for name, value in tensors.items()}, strict=False
    )
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise UserError(
            f"PyTorch's network has other tensors: {', '.join(missing + result.unexpected_keys)};"
            " leave the comparison out."
        )


def _their_stages(model: Any, inputs: Any, stages: dict[str, str]) -> dict[str, np.ndarray]:
    torch = import_optional("torch", "verify a network")
    found: dict[str, np.ndarray] = {}
    hooks = []
    for stage, place in stages.items():
        path, _, index = place.partition(":")

        def keep(_: Any, given: Any, output: Any, stage: str = stage, i: str = index) -> None:
            tensor = output[int(i)] if i else output
            found[stage] = tensor.detach().clone().numpy()

        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in found.items()}


def _our_stages(ported: Ported, image: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        module = _with_dtype(ported.module, dtype)
        variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), ported.variables)
        stages = jax.jit(partial(_all_stages, module))(variables, jnp.asarray(image, dtype))
        return {name: np.asarray(stage) for name, stage in stages.items()}


def _all_stages(module: nn.Module, variables: Any, images: jax.Array) -> dict[str, jax.Array]:
    if not isinstance(module, Segmenter):
        stages: Any = module.apply(variables, images)
        return stages
    stages = module.apply(variables, images, method=lambda m, x: m.backbone(x))
    outputs: Any = module.apply(variables, images)
    scores = {"fine": outputs.fine, "coarse": outputs.coarse}
    return stages | {name: maps for name, maps in scores.items() if maps is not None}


def _with_dtype(module: nn.Module, dtype: str) -> nn.Module:
    """The module and its submodules, computing in another dtype."""
    changed: dict[str, Any] = {
        field.name: _with_dtype(getattr(module, field.name), dtype)
        for field in dataclasses.fields(module)
        if field.name != "parent" and isinstance(getattr(module, field.name), nn.Module)
    }
    if hasattr(module, "dtype"):
        changed["dtype"] = jnp.dtype(dtype)
    return module.clone(**changed)
