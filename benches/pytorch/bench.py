"""Times one mode of PyTorch (or onnxruntime) on the networks of a manifest; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

WHATS = ["supernet", "network", "eval"]
MODES = ["eager", "channels_last", "compile", "compile_channels_last", "onnxruntime"]


class Work(Protocol):
    """A step that can be repeated."""

    def step(self) -> tuple[float, float, float]: ...


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--what", choices=WHATS, required=True)
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--arch", type=Path, help="architecture as JSON, for network and eval")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3, help="steps before the timed ones")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if (args.what == "supernet") != (args.arch is None):
        parser.error("--arch FILE goes with --what network and eval only, and they need it")
    if args.mode == "onnxruntime" and args.what != "eval":
        parser.error("onnxruntime does not train: give --what eval")
    if min(args.batch, args.threads, args.steps, args.warmup) < 1:
        parser.error("--batch, --threads, --steps and --warmup must be at least 1")
    return args


def main() -> None:
    args = arguments()
    # OpenMP reads this when torch is imported.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    # The profiler that reports allocations logs too much.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    warnings.filterwarnings("ignore")
    result = measure(args)
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key:20} {value}" for key, value in result.items()))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Builds, warms up, times."""
    import torch

    import memory
    from space import load_arch, load_manifest
    from steps import Inference, OnnxInference, Training, export_onnx, random_batch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    manifest, space = load_manifest(args.manifest)
    arch = load_arch(args.arch) if args.arch else None
    side = arch["resolution"] if arch else space.resolutions[-1]
    shape = (args.batch, space.image_channels, side, side)

    load_libraries(args.mode, args.what)
    work: Work
    allocator = None
    if args.mode == "onnxruntime":
        assert arch is not None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.onnx"
            export_onnx(arch, torch.zeros(shape), file)
            resident = memory.Resident()
            work = OnnxInference(file, random_batch(shape, space.classes)[0], args.threads)
    else:
        resident = memory.Resident()
        batch = random_batch(shape, space.classes)
        if arch is None:
            work = Training.of_supernet(space, manifest, batch)
        elif args.what == "network":
            work = Training.of_network(arch, manifest, batch)
        else:
            work = Inference(arch, batch)
        prepare(work, args.mode)
    for _ in range(args.warmup):
        work.step()
    resident.reset()
    phases = [work.step() for _ in range(args.steps)]
    peak = resident.peak()
    if not isinstance(work, OnnxInference):
        allocator = memory.allocator_peak(work.step, work.tensors())
    return {
        "what": args.what,
        "mode": args.mode,
        "batch": args.batch,
        "threads": args.threads,
        "steps": args.steps,
        **summary(phases, args.batch),
        "resident_peak_bytes": peak,
        "allocator_peak_bytes": allocator,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnxruntime", "numpy")},
        },
    }


def load_libraries(mode: str, what: str) -> None:
    """Loads what the mode needs and starts its threads, so that the idle size includes them."""
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    images = torch.randn(64, 3, 16, 16)
    if mode.startswith("compile"):
        if what == "eval":
            fold_constants()
        with torch.inference_mode(what == "eval"):
            y = torch.compile(net.train(what != "eval"))(images)
    elif mode == "onnxruntime":
        import onnxruntime  # noqa: F401

        return
    else:
        y = net(images)
    if what != "eval":
        y.sum().backward()


def fold_constants() -> None:
    """Makes the compiler treat weights as constants and fold batch norm into convolutions."""
    import torch._inductor.config

    torch._inductor.config.freezing = True


def prepare(work: Any, mode: str) -> None:
    """Switches a model to the mode."""
    import torch

    if mode.endswith("channels_last"):
        work.net.to(memory_format=torch.channels_last)
        work.images = work.images.contiguous(memory_format=torch.channels_last)
    if mode.startswith("compile"):
        work.model = torch.compile(work.net, fullgraph=True, dynamic=False)


def summary(phases: list[tuple[float, float, float]], batch: int) -> dict[str, float]:
    """Medians in milliseconds."""
    step = statistics.median(sum(p) for p in phases)
    parts = zip(("forward_ms", "backward_ms", "optimizer_ms"), zip(*phases))
    return {
        "step_ms": 1e3 * step,
        **{name: 1e3 * statistics.median(part) for name, part in parts},
        "images_per_second": batch / step,
    }


if __name__ == "__main__":
    main()
