"""Search spaces and architectures as this repository defines them, implemented a second time.

The Rust side is `src/space`. Nothing here calls it, so a mistake on either side shows in the
comparison.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Arch = dict[str, Any]
"""An architecture in the canonical JSON of `ArchSpec`."""


@dataclass(frozen=True)
class BlockType:
    """An inverted residual of a kernel, activation and gating; `skip` has kernel 0."""

    name: str
    kernel: int
    activation: str
    squeeze_excite: bool

    @property
    def skip(self) -> bool:
        return self.kernel == 0


def block_type(name: str) -> BlockType:
    """The type of a name such as `k5_hswish_se` or `skip`."""
    if name == "skip":
        return BlockType(name, 0, "identity", False)
    kernel, activation, *rest = name.split("_")
    return BlockType(name, int(kernel[1:]), activation, rest == ["se"])


ALL_TYPES = [
    f"k{kernel}_{activation}{gate}"
    for kernel in (3, 5)
    for gate in ("", "_se")
    for activation in ("relu", "hswish")
] + ["skip"]


@dataclass(frozen=True)
class Conv:
    """A plain convolution with batch norm and activation."""

    kernel: int
    stride: int
    width: int
    activation: str


@dataclass(frozen=True)
class BlockChoices:
    """The choices of one block; `mids` is empty for expansion 1."""

    stage: int
    index: int
    stride: int
    in_max: int
    mids: tuple[int, ...]
    widths: tuple[int, ...]
    types: tuple[BlockType, ...]

    @property
    def label(self) -> str:
        return f"{self.stage}.{self.index + 1}"

    @property
    def width_max(self) -> int:
        return self.widths[-1]

    @property
    def mid_max(self) -> int:
        return self.mids[-1] if self.mids else self.in_max

    @property
    def can_be_residual(self) -> bool:
        """Whether the input can be added: stride 1 and the same largest width."""
        return self.stride == 1 and self.in_max == self.width_max

    def keeps(self, kind: BlockType) -> bool:
        """Whether this type passes its input on without layers of its own."""
        return kind.skip and self.can_be_residual


@dataclass(frozen=True)
class Space:
    """A network family: fixed stem and head, and blocks with options."""

    resolutions: tuple[int, ...]
    image_channels: int
    classes: int
    divisor: int
    stem: Conv
    blocks: tuple[BlockChoices, ...]
    head: Conv

    def squeeze_width(self, mid: int) -> int:
        """Channels inside a squeeze-excite: a quarter of the hidden ones."""
        return make_divisible(math.floor(mid * 0.25), self.divisor)


def make_divisible(channels: float, divisor: int) -> int:
    """A multiple of `divisor`, half up, never losing more than 5 %."""
    if channels % divisor == 0:
        return int(channels)
    rounded = max(math.floor(channels / divisor + 0.5) * divisor, 1)
    if rounded < 0.95 * channels:
        rounded += divisor
    return max(rounded, divisor)


def parse_space(text: str) -> Space:
    """A space from the text of its file."""
    raw = tomllib.loads(text)
    stem = Conv(**raw["stem"])
    blocks: list[BlockChoices] = []
    incoming = stem.width
    for number, stage in enumerate(raw["stage"], start=1):
        widths = tuple(int(w) for w in _options(stage["width"]))
        names = stage.get("types", raw.get("types"))
        types = tuple(block_type(n) for n in (ALL_TYPES if names == "all" else names))
        for index in range(stage["blocks"]):
            blocks.append(
                BlockChoices(
                    stage=number,
                    index=index,
                    stride=stage["stride"] if index == 0 else 1,
                    in_max=incoming,
                    mids=_mids(stage["expansion"], incoming, raw["channel_divisor"]),
                    widths=widths,
                    types=types,
                )
            )
            incoming = widths[-1]
    return Space(
        resolutions=tuple(raw["input"]["resolutions"]),
        image_channels=raw["input"]["channels"],
        classes=raw["input"]["classes"],
        divisor=raw["channel_divisor"],
        stem=stem,
        blocks=tuple(blocks),
        head=Conv(kernel=1, stride=1, **raw["head"]),
    )


def _options(value: Any) -> list[float]:
    """One option, a list of them, or a range `{ low, high, step }`."""
    if isinstance(value, dict):
        steps = round((value["high"] - value["low"]) / value["step"])
        return [round(value["low"] + i * value["step"], 9) for i in range(steps + 1)]
    return value if isinstance(value, list) else [value]


def _mids(expansion: Any, in_max: int, divisor: int) -> tuple[int, ...]:
    if expansion == 1:
        return ()
    return tuple(make_divisible(ratio * in_max, divisor) for ratio in _options(expansion))


def load_manifest(path: Path) -> tuple[dict[str, Any], Space]:
    """A manifest as a table, and its space. Ends the program if they ask for something that is not
    implemented here."""
    manifest = tomllib.loads(path.read_text())
    if "search" not in manifest:
        raise SystemExit(f"{path} has no [search]: give a manifest that searches and trains")
    text = (path.parent / manifest["space"]).read_text()
    for key, given, has in differences(manifest, tomllib.loads(text)):
        raise SystemExit(f"{path}: {key} is {json.dumps(given)}, the PyTorch side has only {has}")
    return manifest, parse_space(text)


def differences(manifest: dict[str, Any], space: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """What is not implemented here: key, given value, and what is available."""
    search = manifest["search"]
    only_values = [
        ("method", "dmasking"),
        ("masks", "after_norm"),
        ("gates", "soft"),
        ("residual", "expected"),
    ]
    for key, only in only_values:
        if (given := search.get(key, only)) != only:
            yield f"search.{key}", given, f'"{only}"'
    if space.get("share_types", False):
        yield "the space's share_types", True, "a type for each block"
    if (given := space.get("expansion_of", "largest_input")) != "largest_input":
        yield "the space's expansion_of", given, '"largest_input"'
    if len(sides := space["input"]["resolutions"]) > 1:
        yield "the space's input.resolutions", sides, "one resolution"
    for names in [space.get("types", []), *(stage.get("types", []) for stage in space["stage"])]:
        if "res3x3" in names:
            yield "the space's types", names, "inverted residuals and skips"


def load_arch(path: Path) -> Arch:
    """An architecture from its JSON file."""
    return json.loads(path.read_text())


def decide(space: Space, decisions: list[tuple[int, int, int]]) -> Arch:
    """The network with these (type, expansion, width) indices, at the largest resolution."""
    incoming = space.stem.width
    blocks = []
    for choices, (type_index, expansion, width_index) in zip(space.blocks, decisions, strict=True):
        kind, width = choices.types[type_index], choices.widths[width_index]
        if choices.keeps(kind):
            width = min(width, incoming)
            body: Arch = {"op": "identity"}
        elif kind.skip:
            body = {"op": "projection"}
        else:
            mid = choices.mids[expansion] if choices.mids else incoming
            body = {
                "op": "mb_conv",
                "kernel": kind.kernel,
                "activation": kind.activation,
                "mid": mid,
                "expand": bool(choices.mids),
                "squeeze": space.squeeze_width(mid) if kind.squeeze_excite else None,
                "residual": choices.can_be_residual and incoming == width,
            }
        blocks.append(
            {"label": choices.label, "stride": choices.stride, "width": width, "kind": body}
        )
        incoming = width
    return {
        "resolution": space.resolutions[-1],
        "image_channels": space.image_channels,
        "classes": space.classes,
        "stem": vars(space.stem).copy(),
        "blocks": blocks,
        "head": {"op": "conv", "width": space.head.width, "activation": space.head.activation},
    }


def middle_arch(space: Space) -> Arch:
    """A network for timing: middle widths and expansions, the types other than skip in turn."""
    decisions = []
    for i, choices in enumerate(space.blocks):
        working = [t for t, kind in enumerate(choices.types) if not kind.skip] or [0]
        middle = (len(choices.mids) // 2, len(choices.widths) // 2)
        decisions.append((working[i % len(working)], *middle))
    return decide(space, decisions)
