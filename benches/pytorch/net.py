"""The supernet of DMaskingNAS and the derived network, in plain PyTorch.

Both are built from the same blocks, y = (Σ_t g_t · branch_t(x) + ρ x) ∘ M, as `src/net` does.
Every module carries the name that its tensors have on the Rust side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gates import BlockGates, Widths, pass_on
from space import Arch, BlockChoices, Space

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "hswish": F.hardswish,
    "hsigmoid": F.hardsigmoid,
}


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        activation: str,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        groups = channels[0] if depthwise else 1
        self.conv = nn.Conv2d(*channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels[1], eps=1e-5, momentum=0.1)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Gates per channel from the pooled input, with a hard sigmoid."""

    def __init__(self, name: str, channels: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.name = name
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        squeezed = self.activation(self.squeeze(x.mean((2, 3))))
        if mask is not None:
            squeezed = squeezed * mask
        return x * F.hardsigmoid(self.excite(squeezed))[:, :, None, None]


class MbConv(nn.Module):
    """Inverted residual: [expand] → depthwise → mask → [squeeze-excite] → project."""

    def __init__(
        self,
        name: str,
        channels: tuple[int, int, int],
        kernel: int,
        stride: int,
        activation: str,
        expand: bool,
        squeeze: int | None,
    ) -> None:
        super().__init__()
        c_in, mid, c_out = channels
        self.expand = ConvNorm(f"{name}.expand", (c_in, mid), activation) if expand else None
        self.depthwise = ConvNorm(
            f"{name}.depthwise", (mid, mid), activation, kernel, stride, depthwise=True
        )
        self.gate = SqueezeExcite(f"{name}.se", mid, squeeze, activation) if squeeze else None
        self.project = ConvNorm(f"{name}.project", (mid, c_out), "identity")

    def forward(self, x: Tensor, mid: Tensor | None, squeeze: Tensor | None) -> Tensor:
        if self.expand is not None:
            x = self.expand(x)
        x = self.depthwise(x)
        if mid is not None:
            x = x * mid[:, None, None]
        if self.gate is not None:
            x = self.gate(x, squeeze)
        return self.project(x)


class Projection(nn.Module):
    """A skip where the shape changes: 1x1 convolution, batch norm, ReLU."""

    def __init__(self, name: str, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.layer = ConvNorm(name, (c_in, c_out), "relu", stride=stride)

    def forward(self, x: Tensor, mid: Tensor | None, squeeze: Tensor | None) -> Tensor:
        return self.layer(x)


def prefix_matrix(options: list[int]) -> Tensor | None:
    """A with M = A g the sum of prefix masks; `None` if there is nothing to choose."""
    if len(options) < 2:
        return None
    channels = torch.arange(max(options))[:, None]
    return (channels < torch.tensor(options)[None, :]).to(torch.get_default_dtype())


class SuperBlock(nn.Module):
    """All types of a block at their largest widths, under gates."""

    mids: Tensor | None
    squeezes: Tensor | None
    widths: Tensor | None

    def __init__(self, space: Space, choices: BlockChoices) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        self.types: list[int] = []
        for index, kind in enumerate(choices.types):
            name = f"blocks.{choices.label}.{kind.name}"
            if choices.keeps(kind):
                continue
            if kind.skip:
                branch: nn.Module = Projection(
                    name, choices.in_max, choices.width_max, choices.stride
                )
            else:
                branch = MbConv(
                    name,
                    (choices.in_max, choices.mid_max, choices.width_max),
                    kind.kernel,
                    choices.stride,
                    kind.activation,
                    bool(choices.mids),
                    space.squeeze_width(choices.mid_max) if kind.squeeze_excite else None,
                )
            self.branches.append(branch)
            self.types.append(index)
        self.weighs = len(choices.types) > 1
        self.adds_input = choices.can_be_residual
        self.space, self.choices = space, choices
        squeezes = [space.squeeze_width(mid) for mid in choices.mids]
        self.register_buffer("mids", prefix_matrix(list(choices.mids)), persistent=False)
        self.register_buffer("squeezes", prefix_matrix(squeezes), persistent=False)
        self.register_buffer("widths", prefix_matrix(list(choices.widths)), persistent=False)

    def forward(self, x: Tensor, gates: BlockGates, incoming: Widths) -> tuple[Tensor, Widths]:
        """The output and its possible numbers of channels; `incoming` has those of x."""
        mid, squeeze = self._hidden(gates, incoming)
        total: Tensor | None = x * gates.identity if self.adds_input else None
        for branch, index in zip(self.branches, self.types):
            y = branch(x, mid, squeeze)
            if self.weighs:
                y = y * gates.types[index]
            total = y if total is None else total + y
        assert total is not None
        width = _mask(self.widths, gates.widths)
        out = pass_on(self.choices, gates.types, gates.widths, incoming)
        return (total if width is None else total * width[:, None, None]), out

    def _hidden(
        self, gates: BlockGates, incoming: Widths
    ) -> tuple[Tensor | None, Tensor | None]:
        """The masks of the hidden and of the squeezed channels.

        Without expansion, the hidden channels are those of the input.
        """
        if self.choices.mids:
            return _mask(self.mids, gates.expansions), _mask(self.squeezes, gates.expansions)
        if len(incoming) < 2:
            return None, None
        shares = torch.stack([torch.as_tensor(p) for p in incoming.values()])
        squeezes = [self.space.squeeze_width(width) for width in incoming]
        masks = [prefix_matrix(list(incoming)), prefix_matrix(squeezes)]
        mid, squeeze = (_mask(m.to(shares), shares) for m in masks if m is not None)
        return mid, squeeze


def _mask(matrix: Tensor | None, gates: Tensor) -> Tensor | None:
    return None if matrix is None else matrix @ gates


class Block(nn.Module):
    """A block of a derived network."""

    def __init__(self, block: Arch, c_in: int) -> None:
        super().__init__()
        kind, width, name = block["kind"], block["width"], f"blocks.{block['label']}"
        self.width = width
        self.branch: nn.Module | None = None
        self.adds_input = kind["op"] == "identity" or kind.get("residual", False)
        if kind["op"] == "projection":
            self.branch = Projection(f"{name}.skip", c_in, width, block["stride"])
        elif kind["op"] == "mb_conv":
            self.branch = MbConv(
                f"{name}.mbconv",
                (c_in, kind["mid"], width),
                kind["kernel"],
                block["stride"],
                kind["activation"],
                kind["expand"],
                kind["squeeze"],
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch is None:
            return x[:, : self.width]
        y = self.branch(x, None, None)
        return x + y if self.adds_input else y


class Head(nn.Module):
    """1x1 convolution, pooling, [1x1 convolution on the pixel,] fully connected."""

    def __init__(self, head: Arch, c_in: int, classes: int) -> None:
        super().__init__()
        inner = head["mid"] if head["op"] == "ir_pool" else head["width"]
        self.layer = ConvNorm("head", (c_in, inner), head["activation"])
        self.activation = ACTIVATIONS[head["activation"]]
        self.after_pool: nn.Linear | None = None
        if head["op"] == "ir_pool":
            self.after_pool = nn.Linear(inner, head["width"], bias=False)
        self.classifier = nn.Linear(head["width"], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x).mean((2, 3))
        if self.after_pool is not None:
            x = self.activation(self.after_pool(x))
        return self.classifier(x)


class Supernet(nn.Module):
    """The supernet of a space: images `[n, c, h, w]` and gates → logits `[n, classes]`."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.stem = _stem(vars(space.stem), space.image_channels)
        self.blocks = nn.ModuleList(SuperBlock(space, choices) for choices in space.blocks)
        head = {"op": "conv", "width": space.head.width, "activation": space.head.activation}
        self.head = Head(head, space.blocks[-1].width_max, space.classes)

    def forward(self, images: Tensor, gates: list[BlockGates]) -> Tensor:
        x, channels = self.stem(images), {self.stem.conv.out_channels: 1.0}
        for block, of_block in zip(self.blocks, gates):
            x, channels = block(x, of_block, channels)
        return self.head(x)


class Network(nn.Module):
    """The network of an architecture: images `[n, c, h, w]` → logits `[n, classes]`."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.stem = _stem(arch["stem"], arch["image_channels"])
        widths = [arch["stem"]["width"]] + [block["width"] for block in arch["blocks"]]
        self.blocks = nn.Sequential(*(Block(b, c) for b, c in zip(arch["blocks"], widths)))
        self.head = Head(arch["head"], widths[-1], arch["classes"])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)))


def _stem(stem: Arch, image_channels: int) -> ConvNorm:
    channels = (image_channels, stem["width"])
    return ConvNorm("stem", channels, stem["activation"], stem["kernel"], stem["stride"])
