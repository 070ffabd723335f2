"""Writes PyTorch's results in double precision, which the Rust tests compare with.

    python benches/pytorch/make_fixture.py

writes tests/it/fixtures/pytorch_supernet.json and pytorch_networks.json. Weights and images come
from a formula of a tensor's name and an index, which tests/it/pytorch.rs also computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gates import BlockGates, bind, draw, identities
from names import fill, named, to_rust
from net import Network, Supernet
from space import Arch, Space, decide, parse_space
from steps import optimizer_for

HERE = Path(__file__).parent
FIXTURES = HERE.parent.parent / "tests/it/fixtures"
BATCH = 6
ENTRIES = 8
"""The number of entries of a tensor that are written, evenly spaced."""
SGD = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-3, "clip_norm": 0.3}
"""Chosen so that every term of the optimizer matters."""
STEPS = 3
SMOOTHING = 0.1


def noise(name: str, count: int) -> np.ndarray:
    """Numbers in [-1, 1) by a tensor's name and an index: 2 frac(sin(…) 43758.5453) - 1."""
    key = sum((j + 1) * byte for j, byte in enumerate(name.encode()))
    sines = np.sin(12.9898 * np.arange(1, count + 1) + 78.233 * key) * 43758.5453
    return 2.0 * (sines - np.floor(sines)) - 1.0


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's values, rounded to single precision; filters are scaled by fan-in (Kaiming)."""
    u = noise(name, int(np.prod(shape))).reshape(shape)
    match name.rsplit(".", 1)[-1]:
        case "weight":
            scaled = np.sqrt(6.0 / shape[0]) * u
        case "gamma":
            scaled = 1.0 + 0.3 * u
        case "running_var":
            scaled = 1.0 + 0.5 * u
        case _:
            scaled = 0.2 * u
    return scaled.astype(np.float32).astype(np.float64)


def batch(space: Space) -> tuple[Tensor, Tensor]:
    """Images in PyTorch's layout, and labels."""
    side, channels = space.resolutions[-1], space.image_channels
    flat = noise("images", BATCH * side * side * channels).astype(np.float32).astype(np.float64)
    images = torch.from_numpy(flat.reshape(BATCH, side, side, channels)).permute(0, 3, 1, 2)
    return images.contiguous(), (3 * torch.arange(BATCH) + 1) % space.classes


def summary(tensor: Tensor) -> dict[str, Any]:
    """Sum, L2 norm and a few entries, in the Rust side's layout."""
    flat = to_rust(tensor.detach()).flatten()
    at = [i * len(flat) // ENTRIES for i in range(ENTRIES)]
    return {
        "sum": float(flat.sum()),
        "norm": float(flat.norm()),
        "entries": [float(flat[i]) for i in at],
    }


def gradients(net: nn.Module) -> dict[str, Any]:
    """Summaries of the gradients of all parameters."""
    found = {name: t.grad for name, t in named(net).items() if t.requires_grad}
    return {name: summary(grad) for name, grad in found.items() if grad is not None}


def statistics(net: nn.Module) -> dict[str, Any]:
    """Summaries of the running statistics."""
    return {name: summary(t) for name, t in named(net).items() if not t.requires_grad}


def gate_values(gates: BlockGates) -> dict[str, Any]:
    return {
        "types": gates.types.tolist(),
        "expansions": gates.expansions.tolist(),
        "widths": gates.widths.tolist(),
        "identity": gates.identity.item(),
    }


def gate_gradients(gates: BlockGates) -> dict[str, Any]:
    """In the form of `gate_values`; zero for gates that nothing depends on."""
    found = (torch.zeros_like(g) if g.grad is None else g.grad for g in gates)
    return gate_values(BlockGates(*found))


def supernet_case(text: str, space: Space) -> dict[str, Any]:
    """One forward and backward pass of the supernet under drawn gates, then inference."""
    net = Supernet(space).double()
    fill(net, value)
    images, labels = batch(space)
    probabilities = draw(space, 1.0, np.random.default_rng(1))
    rhos = identities(space, probabilities)
    gates = bind(probabilities, rhos, torch.float64, wanted=True)
    logits = net(images, gates)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    after = statistics(net)
    with torch.no_grad():
        inferred = net.eval()(images, gates)
    return {
        "space": text,
        "batch": BATCH,
        "gates": [gate_values(g) for g in gates],
        "loss": loss.item(),
        "logits": logits.tolist(),
        "gradients": gradients(net),
        "gate_gradients": [gate_gradients(g) for g in gates],
        "statistics": after,
        "inference_logits": inferred.tolist(),
    }


def network_case(
    space: Space, decisions: list[tuple[int, int, int]], head: Arch | None = None
) -> dict[str, Any]:
    """A few training steps of a network, then inference; gradients are those of the first step."""
    arch = decide(space, decisions)
    arch["head"] = head or arch["head"]
    net = Network(arch).double()
    fill(net, value)
    images, labels = batch(space)
    optimizer = optimizer_for(net, SGD)
    losses, first = [], {}
    for step in range(STEPS):
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = {"logits": logits.tolist(), "gradients": gradients(net)}
        nn.utils.clip_grad_norm_(net.parameters(), SGD["clip_norm"])
        optimizer.step()
        losses.append(loss.item())
    weights = {n: summary(t) for n, t in named(net).items() if t.requires_grad}
    after = statistics(net)
    with torch.no_grad():
        inferred = net.eval()(images)
    return {
        "decisions": decisions,
        "arch": arch,
        "losses": losses,
        **first,
        "weights_after": weights,
        "statistics": after,
        "inference_logits": inferred.tolist(),
    }


def main() -> None:
    torch.set_num_threads(1)
    text = (HERE / "oracle_space.toml").read_text()
    space = parse_space(text)
    released_head = {"op": "ir_pool", "mid": 20, "width": 24, "activation": "hswish"}
    networks = {
        "space": text,
        "batch": BATCH,
        "label_smoothing": SMOOTHING,
        "sgd": SGD,
        "cases": [
            network_case(space, [(1, 0, 0), (0, 0, 0), (1, 2, 2), (2, 0, 1)]),
            network_case(space, [(2, 0, 1), (0, 0, 1), (2, 0, 1), (0, 1, 1)], released_head),
        ],
    }
    FIXTURES.mkdir(exist_ok=True)
    for file, content in [
        ("pytorch_supernet.json", supernet_case(text, space)),
        ("pytorch_networks.json", networks),
    ]:
        (FIXTURES / file).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
