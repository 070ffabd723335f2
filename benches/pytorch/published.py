"""Published networks in plain PyTorch, built from their definitions by expansion ratios.

Writes `tests/it/published/logits.json`: logits of networks with weights and images of a formula that the
test computes too (`tests/it/published/parity.rs`). Nothing here reads the network files of the program.
Parameters have the names of facebookresearch/mobile-vision.

    python benches/pytorch/published.py tests/it/published
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    "relu": F.relu,
    "hswish": F.hardswish,
    "swish": F.silu,
    "hsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
}


def rounded(x: float, divisor: int) -> int:
    """The 2021 rule of mobile-vision: to the nearest multiple, never below 0.95 x."""
    if x % divisor == 0:
        return int(x)
    multiple = max(1, math.floor(x / divisor + 0.5)) * divisor
    if multiple < 0.95 * x:
        multiple += divisor
    return max(multiple, divisor)


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation."""

    def __init__(self, cin, cout, kernel=1, stride=1, groups=1, bias=False, act=None, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if norm:
            self.bn = nn.BatchNorm2d(cout)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if hasattr(self, "bn"):
            x = self.bn(x)
        return ACTIVATIONS[self.act](x) if self.act else x


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int, act: str, gate: str):
        super().__init__()
        inner = ConvNorm(channels, squeezed, bias=True, act=act, norm=False)
        self.se = nn.Sequential(inner, nn.Conv2d(squeezed, channels, 1))
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * ACTIVATIONS[self.gate](self.se(F.adaptive_avg_pool2d(x, 1)))


class Inverted(nn.Module):
    def __init__(self, cin: int, stride: int, row: dict, divisor: int, act: str):
        super().__init__()
        cout, ratio, bias = row["out_channels"], row["expansion"], row.get("bias", False)
        mid = rounded(cin * ratio, divisor)
        self.groups = row.get("pw_groups", 1)
        if mid != cin:
            self.pw = ConvNorm(cin, mid, groups=self.groups, bias=bias, act=act)
        self.dw = ConvNorm(mid, mid, row["kernel"], stride, groups=mid, bias=bias, act=act)
        if row["se"]:
            share = 0.25 / (ratio if row.get("less_se_channels") else 1)
            squeezed = rounded(int(mid * share), divisor)
            self.se = SqueezeExcite(mid, squeezed, row.get("se_act", act), row["se"])
        self.pwl = ConvNorm(mid, cout, groups=row.get("pwl_groups", 1), bias=bias)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.pw(x) if hasattr(self, "pw") else x
        if self.groups > 1:
            y = F.channel_shuffle(y, self.groups)
        y = self.dw(y)
        if hasattr(self, "se"):
            y = self.se(y)
        y = self.pwl(y)
        return y + x if self.residual else y


class Skip(nn.Module):
    """A skip that changes the shape."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.conv = ConvNorm(cin, cout, 1, stride, act="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PooledHead(nn.Module):
    """The last stage of FBNetV2 and MobileNetV3: its second convolution is behind the pooling."""

    def __init__(self, cin: int, row: dict, divisor: int, act: str):
        super().__init__()
        mid = rounded(cin * row["expansion"], divisor)
        self.pw = ConvNorm(cin, mid, act=act)
        if row.get("pw_se"):
            squeezed = rounded(mid * 0.25, divisor)
            self.pw_se = SqueezeExcite(mid, squeezed, row.get("pw_se_act", act), row["pw_se"])
        self.pwl = ConvNorm(mid, row["out_channels"], act=act, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pw(x)
        if hasattr(self, "pw_se"):
            x = self.pw_se(x)
        return self.pwl(F.adaptive_avg_pool2d(x, 1))


class Backbone(nn.Module):
    def __init__(self, definition: dict):
        super().__init__()
        self.stages = nn.Sequential()
        cin, divisor = 3, definition["width_divisor"]
        for s, stage in enumerate(definition["stages"]):
            position = 0
            for row in stage:
                for repeat in range(row["repeats"]):
                    stride = row["stride"] if repeat == 0 else 1
                    act = definition["act_override"] or row.get("act")
                    block = layer(row, cin, stride, divisor, act)
                    self.stages.add_module(f"xif{s}_{position}", block)
                    cin, position = row["out_channels"], position + 1
        self.out_channels = cin

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)


def layer(row: dict, cin: int, stride: int, divisor: int, act: str) -> nn.Module:
    cout = row["out_channels"]
    match row["op"]:
        case "conv":
            return ConvNorm(cin, cout, row["kernel"], stride, bias=True, act=act)
        case "irf":
            return Inverted(cin, stride, row, divisor, act)
        case "irpool":
            return PooledHead(cin, row, divisor, act)
        case "skip" if cin == cout and stride == 1:
            return nn.Identity()
        case "skip":
            return Skip(cin, cout, stride)
    raise ValueError(row["op"])


class Classifier(nn.Module):
    def __init__(self, definition: dict):
        super().__init__()
        self.backbone = Backbone(definition)
        self.head = nn.Module()
        self.head.conv = nn.Conv2d(self.backbone.out_channels, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head.conv(F.adaptive_avg_pool2d(self.backbone(x), 1)).flatten(1)


def uniform(name: str, count: int) -> np.ndarray:
    """Numbers in [-1, 1) from a name: FNV-1a, then SplitMix64, of which 24 bits are taken."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = steps + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def value(name: str, shape: list[int]) -> np.ndarray:
    """The weights of this name."""
    u = uniform(name, math.prod(shape))
    if name.endswith("running_var") or name.endswith("bn.weight"):
        u = 1 + 0.3 * u
    elif len(shape) == 1:
        u = 0.2 * u
    else:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    return u.astype(np.float32).reshape(shape)


def main(folder: Path) -> None:
    definitions = json.loads((folder / "definitions.json").read_text())
    results = {}
    for name, definition in definitions.items():
        model = Classifier(definition).double().eval()
        state = model.state_dict()
        for key, tensor in state.items():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.from_numpy(value(key, list(tensor.shape))))
        side = definition["input_size"]
        images = uniform("images", 2 * 3 * side * side).astype(np.float32)
        images = torch.from_numpy(images.reshape(2, 3, side, side)).double()
        with torch.no_grad():
            logits = model(images)
        results[name] = [[float(f"{v:.7g}") for v in row] for row in logits.tolist()]
        print(name, tuple(logits.shape), f"spread {logits.max() - logits.min():.4g}")
    (folder / "logits.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
