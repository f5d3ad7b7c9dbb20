"""Proof that a ported network computes what PyTorch computes, stage by stage."""

import dataclasses
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.models import Segmenter
from ranet_jax.porting import name_tables
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.files import StateDict, import_optional, to_torch
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.port import Ported, flatten

# Largest difference of a stage that passes in float32, relative to the stage's largest value.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Twin:
    """An independent implementation of a network in PyTorch.

    Attributes:
      naming: what it calls its tensors; None for the network's first naming.
      build: the network, of a ported one.
      stages: by our name of an output, the submodule whose output it is; with an index, one of
        the submodule's list of outputs.
      size: of an image it takes; one side odd where any size will do.
    """

    naming: Naming | None
    build: Callable[[Ported], Any]
    stages: dict[str, str]
    size: tuple[int, int] = (97, 130)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a stage lies from PyTorch's, relative to the stage's largest value."""

    stage: str
    shape: tuple[int, ...]
    float32: float
    float64: float


def verify(ported: Ported, tensors: StateDict) -> list[Difference]:
    """Run PyTorch's network and ours on the same random image, in float32 and in float64.

    Args:
      ported: our network.
      tensors: the state dict it was made of.

    Returns:
      The differences of every stage.

    Raises:
      UserError: PyTorch, torchvision or timm is missing, or neither has the network.
    """
    torch = import_optional("torch", "verify a network")
    twin = _find_twin(ported)
    model = twin.build(ported).eval()
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


def report(differences: list[Difference]) -> str:
    """A table of the differences."""
    lines = [f"{'stage':<16}{'shape':<22}{'float32':>10}{'float64':>10}"]
    for d in differences:
        shape = " x ".join(map(str, d.shape[1:]))
        lines.append(f"{d.stage:<16}{shape:<22}{d.float32:>10.1e}{d.float64:>10.1e}")
    lines.append("Largest difference from PyTorch, relative to the stage's largest value.")
    return "\n".join(lines)


def _find_twin(ported: Ported) -> Twin:
    name = ported.network.name
    for pattern, twin in TWINS.items():
        if re.fullmatch(pattern, name):
            return twin
    raise UserError(
        f"Neither torchvision nor timm has {name} to compare with; port it without --verify."
    )


def _renamed(ported: Ported, tensors: StateDict, naming: Naming) -> StateDict:
    """The state dict's own tensors under the names of another library, initial values added."""
    arrays = flatten(ported.variables)
    renamed = to_tensors({path: arrays[path] for path in ported.fresh}, naming)
    for name, tensor in tensors.items():
        entry = ported.naming.to_target(name, arrays.__contains__)
        if entry is None or entry.target is None or entry.target in ported.fresh:
            continue
        target = naming.to_source(entry.target)
        assert target is not None, f"{naming.name} lacks {entry.target}"
        renamed[target.source] = tensor
    return renamed


def _load(model: Any, tensors: StateDict) -> None:
    result = model.load_state_dict(
        {name: to_torch(value) for name, value in tensors.items()}, strict=False
    )
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise UserError(
            f"PyTorch's network has other tensors: {', '.join(missing + result.unexpected_keys)};"
            " port without --verify."
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
    """The module and those it is made of, computing in another dtype."""
    changed: dict[str, Any] = {
        field.name: _with_dtype(getattr(module, field.name), dtype)
        for field in dataclasses.fields(module)
        if field.name != "parent" and isinstance(getattr(module, field.name), nn.Module)
    }
    if hasattr(module, "dtype"):
        changed["dtype"] = jnp.dtype(dtype)
    return module.clone(**changed)


def import_torchvision() -> Any:
    """Import torchvision, also beside a build of PyTorch that cannot load its detection operators.

    Raises:
      UserError: it is not installed.
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


def _timm(ported: Ported, name: str, **settings: Any) -> Any:
    import_torchvision()  # which timm imports
    timm = import_optional("timm", "verify a network")
    try:
        return timm.create_model(name, num_classes=ported.num_classes or 0, **settings)
    except AssertionError as error:
        raise UserError(
            f"timm has no {name} of output stride {ported.output_stride} to compare with; port it"
            " without --verify."
        ) from error


def _timm_resnet(ported: Ported) -> Any:
    return _timm(ported, ported.network.name, output_stride=ported.output_stride)


def _timm_deep_resnet(ported: Ported) -> Any:
    name = (
        "resnet101s" if flatten(ported.variables)["params/bn3/scale"].size == 128 else "resnet101c"
    )
    return _timm(ported, name, output_stride=ported.output_stride)


def _timm_hrnet(ported: Ported) -> Any:
    return _timm(ported, "hrnet_w48")


def _torchvision_mobilenet(ported: Ported) -> Any:
    model = import_torchvision().models.mobilenet_v2(num_classes=ported.num_classes or 1)
    if ported.num_classes is None:
        del model.classifier[1]
    _dilate(model, ported.output_stride)
    return model


def _dilate(model: Any, output_stride: int) -> None:
    """Replace strides past the output stride by dilation in each 3 x 3 convolution behind them."""
    torch = import_optional("torch", "verify a network")
    stride, dilation = 1, 1
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            own = module.stride[0]
            module.dilation = (dilation, dilation)
            module.padding = (dilation, dilation)
            if stride * own > output_stride:
                dilation, module.stride = dilation * own, (1, 1)
            else:
                stride *= own


def _torchvision_segmenter(ported: Ported) -> Any:
    models = import_torchvision().models
    with_auxiliary = "auxiliary" in ported.variables["params"]
    segmenter = getattr(models.segmentation, ported.network.name)(
        weights=None,
        weights_backbone=None,
        num_classes=ported.num_classes,
        aux_loss=with_auxiliary,
    )
    strides = [ported.output_stride <= stride for stride in (4, 8, 16)]
    backbone = models.resnet101(weights=None, replace_stride_with_dilation=strides)
    stages = {"layer4": "out"} | ({"layer3": "aux"} if with_auxiliary else {})
    segmenter.backbone = models._utils.IntermediateLayerGetter(backbone, stages)
    return segmenter


LAYERS = {f"layer{stage}": f"layer{stage}" for stage in (1, 2, 3, 4)}
TWINS = {
    r"resnet\d+": Twin(None, _timm_resnet, {"stem": "act1", **LAYERS, "logits": "fc"}),
    "resnet101_v1c": Twin(
        name_tables.RESNET_TIMM, _timm_deep_resnet, {"stem": "act1", **LAYERS, "logits": "fc"}
    ),
    "hrnetv2_w48": Twin(
        None,
        _timm_hrnet,
        {
            "stem": "act2",
            "layer1": "layer1",
            "stage2": "stage2:0",
            "stage3": "stage3:0",
            "stage4": "stage4:0",
            **{f"stage4_branch{branch}": f"stage4:{branch}" for branch in (1, 2, 3)},
            "logits": "classifier",
        },
        size=(96, 160),  # its branches fit together in multiples of 32 alone
    ),
    "mobilenetv2": Twin(
        None,
        _torchvision_mobilenet,
        {
            "stem": "features.0",
            **{
                f"stage{stage}": f"features.{block}"
                for stage, block in enumerate((1, 3, 6, 10, 13, 16, 17), 1)
            },
            "head": "features.18",
            "logits": "classifier.1",
        },
    ),
    "(fcn|deeplabv3)_resnet101": Twin(
        None,
        _torchvision_segmenter,
        {
            "stem": "backbone.relu",
            **{name: f"backbone.{name}" for name in LAYERS},
            "fine": "classifier",
            "coarse": "aux_classifier",
        },
    ),
}
