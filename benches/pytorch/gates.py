"""Gumbel gates, and the share of its input that a block adds (`src/search`, `src/cost`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from space import BlockChoices, Space


class BlockGates(NamedTuple):
    """Weights of a block's options, each vector summing to one, and ρ as `[1]`."""

    types: Tensor
    expansions: Tensor
    widths: Tensor
    identity: Tensor


Probabilities = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The probabilities of one block's types, expansions and widths."""


def draw(space: Space, tau: float, generator: np.random.Generator) -> list[Probabilities]:
    """softmax(ε / τ) with ε ~ Gumbel(0, 1), for architecture parameters that are still equal."""

    def one(options: int) -> np.ndarray:
        weights = np.exp(generator.gumbel(size=options) / tau)
        return weights / weights.sum()

    return [
        (one(len(b.types)), one(max(len(b.mids), 1)), one(len(b.widths))) for b in space.blocks
    ]


Widths = dict[int, "float | Tensor"]
"""Possible numbers of channels with their probabilities."""


def pass_on(choices: BlockChoices, types: Tensor, widths: Tensor, incoming: Widths) -> Widths:
    """The numbers of channels that leave a block.

    A skip that keeps the shape passes on the smaller of its input and its chosen width.
    """
    chosen: Widths = dict(zip(choices.widths, widths, strict=True))
    if not any(choices.keeps(t) for t in choices.types):
        return chosen
    keeps = sum(p for t, p in zip(choices.types, types) if choices.keeps(t))
    works = sum(p for t, p in zip(choices.types, types) if not choices.keeps(t))
    out: Widths = {width: p * works for width, p in chosen.items()}
    for a, p in incoming.items():
        for b, q in chosen.items():
            out[min(a, b)] = out.get(min(a, b), 0.0) + p * q * keeps
    return out


def identities(space: Space, probabilities: list[Probabilities]) -> list[float]:
    """ρ of every block: the probability that the derived network adds the block's input.

    A skip that keeps the shape adds it, and so does any other type whose chosen width equals the
    incoming width.
    """
    incoming: Widths = {space.stem.width: 1.0}
    rhos = []
    for choices, (types, _, widths) in zip(space.blocks, probabilities, strict=True):
        chosen = dict(zip(choices.widths, map(float, widths), strict=True))
        keeps = sum(float(p) for t, p in zip(choices.types, types) if choices.keeps(t))
        equal = sum(p * chosen.get(width, 0.0) for width, p in incoming.items())
        rhos.append(equal * (1.0 - keeps) + keeps if choices.can_be_residual else 0.0)
        incoming = pass_on(choices, types, widths, incoming)
    return rhos


def bind(
    probabilities: list[Probabilities], rhos: list[float], dtype: torch.dtype, wanted: bool = False
) -> list[BlockGates]:
    """The gates as tensors; `wanted` asks for their gradients."""

    def leaf(values: np.ndarray | list[float]) -> Tensor:
        return torch.tensor(values, dtype=dtype).requires_grad_(wanted)

    return [
        BlockGates(leaf(t), leaf(e), leaf(w), leaf([rho]))
        for (t, e, w), rho in zip(probabilities, rhos, strict=True)
    ]
