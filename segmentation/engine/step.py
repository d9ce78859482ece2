"""One training step, in full or mixed precision, on any device."""

from __future__ import annotations

import time
from typing import Any

import torch
from detectron2.engine import SimpleTrainer


class StepTrainer(SimpleTrainer):
    """detectron2's simple trainer with mixed precision that does not insist on CUDA.

    Mixed precision is float16 with a gradient scaler on CUDA, bfloat16 elsewhere. Gradients are
    unscaled before the optimiser, which may clip them, sees them.

    Args:
        *arguments: Of ``SimpleTrainer``: model, data loader, optimiser.
        device: Where the model is.
        amp: Mixed precision.
        **options: Of ``SimpleTrainer``.
    """

    def __init__(
        self, *arguments: Any, device: torch.device, amp: bool = False, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.device = device
        self.amp = amp
        self.dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
        self.grad_scaler = torch.amp.GradScaler(
            device.type, enabled=amp and self.dtype is torch.float16
        )

    def run_step(self) -> None:
        """Forward, backward, update."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.dtype, enabled=self.amp):
            losses = self.model(data)
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """With the scaler's state, which is empty where it is off."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state of a run with or without mixed precision."""
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
