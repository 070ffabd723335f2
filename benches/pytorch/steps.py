"""The steps that are timed: training steps of the search and of a network, and inference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gates import bind, draw, identities
from net import Network, Supernet
from space import Arch, Space

Phases = tuple[float, float, float]
"""Seconds for forward (with the loss), backward and optimizer."""
Model = Callable[..., Tensor]


def optimizer_for(net: nn.Module, config: dict[str, Any], fused: bool = False) -> torch.optim.SGD:
    """SGD with momentum; weight decay applies to filters, not to batch norm and biases."""
    filters = [p for p in net.parameters() if p.dim() > 1]
    rows = [p for p in net.parameters() if p.dim() <= 1]
    groups = [
        {"params": filters, "weight_decay": config["weight_decay"]},
        {"params": rows, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=config["learning_rate"], momentum=config["momentum"], fused=fused
    )


def random_batch(shape: tuple[int, int, int, int], classes: int) -> tuple[Tensor, Tensor]:
    """Normalised images and labels; their content does not change the time."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(shape, generator=generator)
    return images, torch.randint(classes, shape[:1], generator=generator)


class Training:
    """Steps of SGD on one batch: of a network, or of the supernet with fresh gates."""

    def __init__(
        self,
        net: nn.Module,
        config: dict[str, Any],
        smoothing: float,
        gates: Callable[[], tuple[Any, ...]],
        batch: tuple[Tensor, Tensor],
    ) -> None:
        self.net = net
        self.model: Model = net
        self.smoothing = smoothing
        self.gates = gates
        self.images, self.labels = batch
        self.clip_norm = config.get("clip_norm")
        self.optimizer = optimizer_for(net, config, fused=True)

    @classmethod
    def of_supernet(
        cls, space: Space, manifest: dict[str, Any], batch: tuple[Tensor, Tensor]
    ) -> Training:
        """The weight step of the search."""
        search = manifest["search"]
        generator = np.random.default_rng(1)

        def gates() -> tuple[Any, ...]:
            drawn = draw(space, search["temperature"]["initial"], generator)
            return (bind(drawn, identities(space, drawn), torch.float32),)

        return cls(Supernet(space), search["weights"], 0.0, gates, batch)

    @classmethod
    def of_network(
        cls, arch: Arch, manifest: dict[str, Any], batch: tuple[Tensor, Tensor]
    ) -> Training:
        """A step of training from scratch."""
        train = manifest["train"]
        smoothing = train.get("label_smoothing", 0.0)
        return cls(Network(arch), train["optimizer"], smoothing, lambda: (), batch)

    def step(self) -> Phases:
        start = time.perf_counter()
        logits = self.model(self.images, *self.gates())
        loss = F.cross_entropy(logits, self.labels, label_smoothing=self.smoothing)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        end = time.perf_counter()
        return forward - start, backward - forward, end - backward

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept from step to step."""
        yield from self.net.parameters()
        yield from self.net.buffers()
        yield from (self.images, self.labels)
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


class Inference:
    """Logits of a network with running statistics."""

    def __init__(self, arch: Arch, batch: tuple[Tensor, Tensor]) -> None:
        self.net = Network(arch).eval()
        self.model: Model = self.net
        self.images, _ = batch

    def step(self) -> Phases:
        start = time.perf_counter()
        with torch.inference_mode():
            self.model(self.images)
        return time.perf_counter() - start, 0.0, 0.0

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept from step to step."""
        yield from self.net.parameters()
        yield from self.net.buffers()
        yield self.images


class OnnxInference:
    """Inference in onnxruntime, whose optimizer folds batch norm into the convolutions."""

    def __init__(self, file: Path, images: Tensor, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {self.session.get_inputs()[0].name: images.numpy()}

    def step(self) -> Phases:
        start = time.perf_counter()
        self.session.run(None, self.inputs)
        return time.perf_counter() - start, 0.0, 0.0


def export_onnx(arch: Arch, images: Tensor, file: Path) -> None:
    """Writes the network, in inference mode, for onnxruntime."""
    torch.onnx.export(Network(arch).eval(), (images,), str(file), dynamo=True, verbose=False)
