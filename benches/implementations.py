"""The implementations that `benches/compare` measures, and how one measurement is taken."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTORCH = ROOT / "benches/pytorch"
ENVIRONMENT = ROOT / "target/pytorch-venv"
PYTHON = ENVIRONMENT / "bin/python"
OURS = "repro"
OURS_RECOMPUTING = "repro, recompute"
"""The supernet with `search.recompute = "block"`."""
ALL_OURS = [OURS, OURS_RECOMPUTING]
TRAINING_MODES = ["eager", "channels_last", "compile", "compile_channels_last"]
MODES = [*TRAINING_MODES, "onnxruntime"]
PACKAGES = ["torch", "onnxruntime", "numpy"]

Result = dict[str, Any]


class Failed(Exception):
    """One line that says what failed, where and what to do. `reason` is the last line of the
    program's standard error, `said` all of it."""

    def __init__(self, line: str, reason: str = "", said: str = "") -> None:
        super().__init__(line)
        self.reason, self.said = reason or line, said

    def as_json(self) -> dict[str, str]:
        return {"error": self.reason, "message": str(self), "stderr": self.said}


@dataclass
class Lab:
    """What is common to all measurements."""

    manifest: Path
    arch: Path | None
    repro: Path
    threads: int
    steps: int
    batch: int = 0
    """The batch size of our last measurement; PyTorch gets the same."""

    def prepare(self) -> None:
        """Creates the environment, and an architecture if none is given. The PyTorch side refuses
        what it does not implement."""
        make_environment()
        text = output([PYTHON, PYTORCH / "arch.py", self.manifest])
        if self.arch is None:
            self.arch = ENVIRONMENT / "arch.json"
            self.arch.write_text(text)

    def revision(self) -> str:
        """The revision that the program was built from, by its --version."""
        _, _, said = output([self.repro, "--version"]).strip().partition("(")
        return said.rstrip(")") or "unknown"

    def versions(self) -> dict[str, str]:
        code = "import json, platform, importlib.metadata as m\n"
        code += f"of = {{name: m.version(name) for name in {PACKAGES}}}\n"
        code += "print(json.dumps({'python': platform.python_version()} | of))"
        return json.loads(output([PYTHON, "-c", code]))

    def measure(self, what: str, who: str) -> Result:
        """One measurement, and how many cores other programs used meanwhile."""
        clock, others = time.monotonic(), others_seconds()
        result = self.ours(what, who) if who in ALL_OURS else self.pytorch(what, who)
        others, clock = others_seconds() - others, time.monotonic() - clock
        return result | {"others_cores": min(max(0.0, others / clock), float(os.cpu_count() or 1))}

    def ours(self, what: str, who: str) -> Result:
        command = [self.repro, "bench", self.manifest, "--what", what, "--json"]
        if who == OURS_RECOMPUTING:
            command += ["--set", "search.recompute=block"]
        command += ["--steps", self.steps, "--threads", self.threads, *self.network(what)]
        result = json.loads(output(command))
        if result["threads"] != self.threads:
            raise Failed(f"repro ran with {result['threads']} threads instead of {self.threads}")
        # The names that both sides use: what the allocator counts, and what the system counts.
        result["allocator_peak_bytes"] = result.pop("peak_bytes")
        result["resident_peak_bytes"] = result.pop("resident_bytes")
        self.batch = result["batch"]
        return result

    def pytorch(self, what: str, mode: str) -> Result:
        command = [PYTHON, PYTORCH / "bench.py", self.manifest, "--what", what, "--mode", mode]
        command += ["--steps", self.steps, "--threads", self.threads, "--batch", self.batch]
        # Compiled code is cached for later rounds.
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(ENVIRONMENT / "compiled")}
        said = output([*command, "--json", *self.network(what)], cache)
        return json.loads(said.splitlines()[-1])

    def network(self, what: str) -> list[Any]:
        return [] if what == "supernet" else ["--arch", self.arch]


def make_environment() -> None:
    """Installs the pinned packages, unless exactly these are installed."""
    wanted = (PYTORCH / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements.txt"
    if not stamp.is_file() or stamp.read_text() != wanted:
        say("installing PyTorch into target/pytorch-venv")
        try:
            venv.create(ENVIRONMENT, symlinks=True, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Failed(f"cannot create target/pytorch-venv: {error}") from error
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "-r", PYTORCH / "requirements.txt"]
        output(pip, advice="it needs a network connection and 6 GB of disk space")
        stamp.write_text(wanted)
    advice = "delete target/pytorch-venv and run it again"
    output([PYTHON, "-c", f"import {', '.join(PACKAGES)}"], advice=advice)


def output(command: list[Any], environment: dict[str, str] | None = None, advice: str = "") -> str:
    """The standard output of a command that must succeed."""
    done = run(command, environment)
    if done.returncode == 0:
        return done.stdout
    status, words = done.returncode, [short(word) for word in command]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = (lines or ["it printed no error"])[-1][:300]
    reason += f" ({f'signal {-status}' if status < 0 else f'exit status {status}'})"
    advice = f"; {advice}" if advice else ""
    raise Failed(f"`{shlex.join(words)}` failed: {reason}{advice}", reason, done.stderr[-4000:])


def short(word: Any) -> str:
    """The word without the folder of the repository."""
    return str(word).removeprefix(f"{ROOT}/")


def run(
    command: list[Any], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, capture_output=True, text=True, env=os.environ | (environment or {})
        )
    except OSError as error:
        advice = "; delete target/pytorch-venv and run it again" if command[0] == PYTHON else ""
        raise Failed(f"cannot start {short(words[0])}: {error.strerror}{advice}") from error


def others_seconds() -> float:
    """Core seconds that other programs used since the machine started: neither this one nor its
    ended children. Zero where the operating system does not tell."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except OSError:
        return 0.0
    spent = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return spent - sum(os.times()[:4])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
