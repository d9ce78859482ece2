"""Time and memory of one thing at a time."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fineclip.engine.optim import fused_options

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of mixed precision by the names that commands give them."""


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


def autocast(device: torch.device, amp: str | None) -> torch.autocast:
    """Mixed precision by name; None: none."""
    return torch.autocast(device.type, HALF_TYPES.get(amp or ""), enabled=amp is not None)


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of a call, a multiply-add being two.

    Matrix products and convolutions count. Attention runs by its plain formula, so that the count
    is the same on every device, and what fused kernels compute a second time is no part of it.
    """
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops()


def training_step(
    model: nn.Module, loss: Callable[[], Tensor], device: torch.device, amp: str | None
) -> Callable[[], None]:
    """A function that takes an optimizer step of a model, as trainings do.

    Args:
        model: What is trained; gradients stay allocated, they belong to it and not to the step.
        loss: Computes the loss.
        device: Where the model is.
        amp: "bf16" or "fp16" autocast of the loss; None: float32.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = fused_options(torch.optim.AdamW, trained)
    optimizer = torch.optim.AdamW(trained, lr=1e-6, **fused)

    def run() -> None:
        optimizer.zero_grad(set_to_none=False)
        with autocast(device, amp):
            value = loss()
        value.backward()
        optimizer.step()

    return run


def measure_cost(
    run: Callable[[], object], device: torch.device, *, steps: int = 3
) -> dict[str, Any]:
    """Time and memory of a call that has been made before.

    Args:
        run: The call.
        device: Where it computes.
        steps: Calls whose time is taken; memory is that of one more.

    Returns:
        ``seconds_per_step`` and ``cpu_seconds_per_step`` of all threads of this process (medians),
        ``peak_bytes`` (allocated on the CUDA device, else resident in the process) and
        ``activation_bytes`` (what of it the call adds).
    """
    synchronize(device)
    seconds, cpu_seconds = [], []
    for _ in range(steps):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    before = start_memory(device)
    run()
    peak = peak_memory_bytes()
    return {
        "seconds_per_step": median(seconds),
        "cpu_seconds_per_step": median(cpu_seconds),
        "peak_bytes": peak,
        "activation_bytes": peak - before,
    }


def call_in_process(
    module: str, what: str, *arguments: str, limit: float | None = None
) -> dict[str, Any]:
    """Runs a module in a fresh process, so that its memory is its own.

    Args:
        module: Run as ``python -m module ARGUMENTS``; its last line of output is JSON.
        what: What messages call it.
        arguments: Of the command line.
        limit: Seconds after which it is ended; None: none.

    Raises:
        RuntimeError: The process failed; its last line says why.
    """
    try:
        result = run_group([sys.executable, "-m", module, *arguments], limit)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{what}: took longer than {limit:.0f} s") from None
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        raise RuntimeError(f"{what}: ended by {name}{hint}")
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise RuntimeError(f"{what}: {lines[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def run_group(command: Sequence[str], limit: float | None) -> subprocess.CompletedProcess[str]:
    """Runs a command; what is left of it and of the processes it started ends with this call.

    Args:
        command: Program and arguments.
        limit: Seconds; None: none.

    Raises:
        subprocess.TimeoutExpired: It took longer.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def call_function(
    function: str, arguments: Mapping[str, Any], what: str, *, limit: float | None = None
) -> dict[str, Any]:
    """Calls a function in a fresh process (:mod:`fineclip.experiments.call`).

    Args:
        function: ``"package.module:function"``; it returns a dict of JSON values.
        arguments: Its keyword arguments, JSON values.
        what: What messages call it.
        limit: Seconds after which it is ended; None: none.

    Raises:
        RuntimeError: It failed; one line says why.
    """
    module = "fineclip.experiments.call"
    return call_in_process(module, what, function, json.dumps(arguments), limit=limit)


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
