"""Checkpoints: safe reading, recognition of formats, conversion between them."""

from fineclip.checkpoints.conversion import convert
from fineclip.checkpoints.formats import identify, load, load_into
from fineclip.checkpoints.report import Report
from fineclip.checkpoints.safe import CheckpointError, install_safe_loader, read_checkpoint
from fineclip.checkpoints.trained import check_progress, load_trained

__all__ = [
    "CheckpointError",
    "Report",
    "check_progress",
    "convert",
    "identify",
    "install_safe_loader",
    "load",
    "load_into",
    "load_trained",
    "read_checkpoint",
]
