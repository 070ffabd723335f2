"""Converts names and layouts of tensors to and from those of the Rust side.

There, a 1x1 convolution is `[c_in, c_out]`, the stem `[k·k·c_in, c_out]` with rows ordered
(kh, kw, c_in), a depthwise convolution `[k·k, c]` and a fully connected layer `[c_in, c_out]`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from net import ConvNorm, Head, SqueezeExcite


def named(net: nn.Module) -> dict[str, Tensor]:
    """Every parameter and running statistic under its Rust name, still in PyTorch's layout."""
    found: dict[str, Tensor] = {}
    for module in net.modules():
        if isinstance(module, ConvNorm):
            norm = module.norm
            found[f"{module.name}.weight"] = module.conv.weight
            found[f"{module.name}.gamma"] = norm.weight
            found[f"{module.name}.beta"] = norm.bias
            found[f"{module.name}.running_mean"] = _present(norm.running_mean)
            found[f"{module.name}.running_var"] = _present(norm.running_var)
        elif isinstance(module, SqueezeExcite):
            for part in ("squeeze", "excite"):
                _add_linear(found, f"{module.name}.{part}", getattr(module, part))
        elif isinstance(module, Head):
            if module.after_pool is not None:
                _add_linear(found, "head.after_pool", module.after_pool)
            _add_linear(found, "classifier", module.classifier)
    return found


def _present(buffer: Tensor | None) -> Tensor:
    assert buffer is not None
    return buffer


def _add_linear(found: dict[str, Tensor], name: str, layer: nn.Linear) -> None:
    found[f"{name}.weight"] = layer.weight
    if layer.bias is not None:
        found[f"{name}.bias"] = layer.bias


def to_rust(tensor: Tensor) -> Tensor:
    """From PyTorch's layout to the Rust side's."""
    match tensor.dim():
        case 4 if tensor.shape[1] == 1 and tensor.shape[2] > 1:  # depthwise [c, 1, k, k]
            return tensor.flatten(1).t().contiguous()
        case 4:  # [c_out, c_in, k, k]
            return tensor.permute(2, 3, 1, 0).reshape(-1, tensor.shape[0])
        case 2:
            return tensor.t().contiguous()
        case _:
            return tensor


def from_rust(values: Tensor, like: Tensor) -> Tensor:
    """From the Rust side's layout to that of `like`."""
    match like.dim():
        case 4 if like.shape[1] == 1 and like.shape[2] > 1:
            return values.t().reshape(like.shape)
        case 4:
            c_out, c_in, kh, kw = like.shape
            return values.reshape(kh, kw, c_in, c_out).permute(3, 2, 0, 1)
        case 2:
            return values.t()
        case _:
            return values


def fill(net: nn.Module, value: Callable[[str, tuple[int, ...]], np.ndarray]) -> None:
    """Sets every tensor to `value(its Rust name, its Rust shape)`."""
    with torch.no_grad():
        for name, tensor in named(net).items():
            values = torch.from_numpy(value(name, tuple(to_rust(tensor).shape)))
            tensor.copy_(from_rust(values, tensor))
