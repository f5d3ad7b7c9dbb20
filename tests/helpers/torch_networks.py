"""PyTorch networks of torchvision and timm with random weights, and how ours compare with them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch

from ranet_jax.porting.networks.pytorch import import_torchvision

with warnings.catch_warnings(action="ignore"):
    torchvision = import_torchvision()
    import timm

__all__ = ["timm", "torchvision"]


def randomised(model, seed=0):
    """The network in evaluation mode, with random statistics, scales and biases in its norms."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            module.num_batches_tracked.fill_(1234)
        elif isinstance(module, torch.nn.GroupNorm):
            module.weight.data.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
            module.bias.data.copy_(0.1 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()


def image(size, seed=0):
    """A random normalised image [1, H, W, 3] in float64."""
    return np.random.default_rng(seed).normal(size=(1, *size, 3))


def run(model, images, stages, dtype):
    """Outputs of submodules in NHWC, by our names of the stages."""
    found = {}

    def keep(stage):
        def hook(module, inputs, output):
            found[stage] = output

        return hook

    hooks = [model.get_submodule(p).register_forward_hook(keep(s)) for s, p in stages.items()]
    with torch.no_grad():
        model.to(dtype)(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(dtype))
    for hook in hooks:
        hook.remove()
    return {name: channels_last(value) for name, value in found.items()}


def channels_last(value):
    if isinstance(value, list):
        return [channels_last(entry) for entry in value]
    array = value.detach().numpy().copy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def apply(module, variables, images, dtype):
    """Outputs of a ported module that computes in a dtype."""
    with jax.enable_x64(dtype == "float64"):
        cast = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
        compiled = jax.jit(module.apply)
        outputs = compiled(cast, jnp.asarray(images, dtype))
        stages = outputs if isinstance(outputs, dict) else vars(outputs)
        return {k: np.asarray(v) for k, v in stages.items() if isinstance(v, jax.Array)}


def assert_close(ours, theirs, dtype, name=""):
    """Check for differences below 1e-9 (float64) or 1e-4 (float32) of the largest value."""
    assert ours.shape == theirs.shape, name
    assert ours.dtype == dtype, name
    scale = np.abs(theirs).max()
    assert scale > 0
    difference = np.abs(ours - theirs).max()
    assert difference < (1e-9 if dtype == "float64" else 1e-4) * scale, (name, difference, scale)
