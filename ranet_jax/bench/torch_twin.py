"""The network of a config and its training step in PyTorch, to compare times with ours."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from ml_collections import ConfigDict

from ranet_jax.errors import UserError
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.files import import_optional, to_torch
from ranet_jax.porting.networks import BACKBONES, find_network
from ranet_jax.porting.networks.pytorch import import_torchvision

PURPOSE = "time a step beside PyTorch's"
# One step on a batch of host arrays. It reads the loss that it returns, so that the step has ended.
TorchStep = Callable[[Batch], float]


def torch_network(config: ConfigDict, variables: Any, num_classes: int) -> Any:
    """A PyTorch module of a network without a context block, in training mode, with our weights.

    Its maps are channels-last, the fastest layout in PyTorch.

    Raises:
      UserError: PyTorch, torchvision or timm is missing, or the config describes another network.
    """
    torch = import_optional("torch", PURPOSE)
    model = _segmenter(config, num_classes)
    (naming,) = find_network(config).namings
    arrays = flax.traverse_util.flatten_dict(variables, sep="/")
    arrays = {path: np.asarray(array) for path, array in arrays.items()}
    tensors = {name: to_torch(value) for name, value in to_tensors(arrays, naming).items()}
    left_out = model.load_state_dict(tensors, strict=False)
    if left_out.unexpected_keys or any(
        not name.endswith("num_batches_tracked") for name in left_out.missing_keys
    ):
        raise ValueError(f"The two networks differ: {left_out}")
    return model.to(_device(torch), memory_format=torch.channels_last).train()


def torch_scores(network: Any) -> Callable[[Batch], None]:
    """The score maps of a network alone, without gradients."""
    torch = import_optional("torch", PURPOSE)

    def scores(batch: Batch) -> None:
        with torch.no_grad():
            network(_images(torch, batch)).sum().item()

    return scores


def torch_convolution(features: np.ndarray, kernel: np.ndarray) -> Callable[[Batch], None]:
    """One convolution alone of maps [b, h, w, c] and a kernel [3, 3, c, m], channels-last."""
    torch = import_optional("torch", PURPOSE)
    device = _device(torch)
    maps = torch.from_numpy(features).to(device).permute(0, 3, 1, 2)
    weights = torch.from_numpy(kernel).to(device).permute(3, 2, 0, 1)
    weights = weights.contiguous(memory_format=torch.channels_last)

    def convolution(batch: Batch) -> None:
        torch.nn.functional.conv2d(maps, weights, padding=1).sum().item()

    return convolution


def torch_step(config: ConfigDict, network: Any) -> TorchStep:
    """The training step of a network in PyTorch, as the config describes it.

    The loss is that of the fine scores, resized in the same way as ours, with class weights; SGD
    has momentum and weight decay.
    """
    torch = import_optional("torch", PURPOSE)
    device = _device(torch)
    weights = config.loss.class_weights
    return _train_step(
        torch,
        network,
        torch.optim.SGD(
            network.parameters(),
            lr=config.optimizer.learning_rate,
            momentum=config.optimizer.momentum,
            weight_decay=config.optimizer.weight_decay,
        ),
        config.model.align_corners,
        torch.tensor(weights, device=device) if weights else None,
    )


def check_twin(config: ConfigDict) -> None:
    """Raise `UserError` unless PyTorch's step computes the same as the config's step."""
    needed: dict[str, dict[str, Any]] = {
        "model": {
            "context": "none",
            "stem": "conv7",
            "stages": 4,
            "width": 64,
            "dilate_first_block": False,
            "dtype": "float32",
        },
        "train": {"microbatches": 1, "max_device_batch": None},
        "loss": {"lovasz": 0},
    }
    if config.model.backbone == "mobilenetv2":
        needed["model"]["read_head"] = True
    wrong = [
        f"config.{section}.{name}={value}"
        for section, fields in needed.items()
        for name, value in fields.items()
        if config[section][name] != value
    ]
    if not config.model.backbone.startswith(("resnet", "mobilenetv2")):
        wrong.append("config.model.backbone to a ResNet or mobilenetv2")
    if wrong:
        raise UserError(
            "PyTorch's step supports only a ResNet or MobileNetV2 without a context block, an"
            f" undivided batch and cross-entropy as the only loss; set {', '.join(wrong)}."
        )


def _segmenter(config: ConfigDict, num_classes: int) -> Any:
    """The network, with modules named as ours and fresh random weights."""
    nn = import_optional("torch", PURPOSE).nn
    fields = config.model

    def conv_bn(inputs: int) -> Any:
        conv = nn.Conv2d(inputs, fields.channels, 3, padding=1, bias=False)
        layers = {"conv": conv, "bn": nn.BatchNorm2d(fields.channels), "relu": nn.ReLU()}
        return nn.Sequential(OrderedDict(layers))

    backbone, width = _backbone(fields)
    context = {"reduce": conv_bn(width), "fuse": conv_bn(fields.channels)}
    parts = {
        "backbone": backbone,
        "context": nn.Sequential(OrderedDict(context)),
        "dropout": nn.Dropout2d(fields.dropout),
        "fine_logit": nn.Conv2d(fields.channels, num_classes, 1),
    }
    return nn.Sequential(OrderedDict(parts))


def _backbone(fields: ConfigDict) -> tuple[Any, int]:
    """The backbone up to its last features, and their number of channels."""
    twin = BACKBONES[fields.backbone].twin
    assert twin is not None
    model = twin.build(fields.output_stride, None, lambda name: None)
    if fields.backbone == "mobilenetv2":
        model.forward, width = model.features.forward, model.last_channel
    else:
        model.forward, width = model.forward_features, model.num_features
    return model, width


def deeplabv3_step(num_classes: int) -> TorchStep:
    """The training step of torchvision's DeepLabV3-ResNet101, output stride 8, in bfloat16.

    On a GPU the network is compiled (`torch.compile`); its maps are channels-last.

    Raises:
      UserError: PyTorch or torchvision is missing.
    """
    torch = import_optional("torch", PURPOSE)
    build = import_torchvision().models.segmentation.deeplabv3_resnet101
    device = _device(torch)
    model = build(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False)
    model = model.to(device, memory_format=torch.channels_last).train()
    network = torch.compile(model) if device == "cuda" else model

    def scores(images: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return network(images)["out"].float()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return _train_step(torch, scores, optimizer, align_corners=False)  # as torchvision resizes


def _device(torch: Any) -> str:
    """Where PyTorch computes: on a GPU if JAX does too and PyTorch can."""
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def _images(torch: Any, batch: Batch) -> Any:
    return torch.from_numpy(batch["image"]).to(_device(torch)).permute(0, 3, 1, 2)


def _train_step(
    torch: Any,
    network: Callable[[Any], Any],
    optimizer: Any,
    align_corners: bool,
    class_weights: Any = None,
) -> TorchStep:
    """A step of `optimizer` on the cross-entropy of the network's resized score maps."""
    device = _device(torch)

    def step(batch: Batch) -> float:
        images = _images(torch, batch)
        labels = torch.from_numpy(batch["label"]).to(device).long()
        optimizer.zero_grad()
        scores = torch.nn.functional.interpolate(
            network(images), labels.shape[1:], mode="bilinear", align_corners=align_corners
        )
        total = torch.nn.functional.cross_entropy(
            scores, labels, class_weights, ignore_index=IGNORE_LABEL, reduction="sum"
        )
        loss = total / (labels != IGNORE_LABEL).sum().clamp(min=1)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
