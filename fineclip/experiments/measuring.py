"""Time and memory of one thing at a time."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Waits until an accelerator has done what it was asked to."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def peak_memory_bytes() -> int:
    """Most memory used so far: allocated on the CUDA device, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Second choice: on Linux this would count the parent's memory until the exec as well.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def start_memory(device: torch.device) -> int:
    """Starts the count of the peak anew and returns the bytes in use now."""
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if sys.platform == "linux":
        # Freed blocks leave the process at once: what glibc would keep of them is not in use. Time
        # is not taken any more, which this would cost.
        libc = ctypes.CDLL(None)
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(parameter, 1 << 16)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM
    return peak_memory_bytes()


def call_in_process(module: str, what: str, *arguments: str) -> dict[str, Any]:
    """Runs a module in a fresh process, so that its memory is its own.

    Args:
        module: Run as ``python -m module ARGUMENTS``; its last line of output is JSON.
        what: What messages call it.
        arguments: Of the command line.

    Raises:
        RuntimeError: The process failed; its last line says why.
    """
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise RuntimeError(f"{what}: {lines[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def load_yardstick(file: str | Path | None, mode: str) -> ModuleType:
    """Loads a slow twin to measure against, which is no part of what users install.

    Args:
        file: A Python file.
        mode: What needs it, for the message.

    Raises:
        ValueError: No file is named, or it does not exist.
    """
    spec = None
    if file is not None and Path(file).is_file():
        spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"mode {mode} needs its yardstick, a Python file; got {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
