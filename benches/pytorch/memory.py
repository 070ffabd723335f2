"""The memory that a measurement takes above the idle process."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor


def _status(key: str) -> int:
    """A size of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


class Resident:
    """Growth of the resident size since the construction of this object.

    Construct it after the libraries are loaded and before the model is built.
    """

    def __init__(self) -> None:
        trim()
        self.idle = _status("VmRSS")

    def reset(self) -> None:
        """Resets the peak, and returns freed memory to the system."""
        trim()
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """The high water mark since the last reset, in bytes above idle."""
        return _status("VmHWM") - self.idle


def trim() -> None:
    """Returns freed memory to the system, if the C library can."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:
        pass


def allocator_peak(step: Callable[[], object], live: Iterable[Tensor]) -> int:
    """The most bytes that PyTorch's allocator holds at once during `step`.

    `live` are the tensors that exist before it; allocations and frees come from the profiler.
    """
    held = sum({t.data_ptr(): t.untyped_storage().nbytes() for t in live}.values())
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now, most = 0, 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return held + most
