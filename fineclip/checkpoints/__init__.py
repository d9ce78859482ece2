"""Safe reading of checkpoints and recognition of their formats."""

from fineclip.checkpoints.formats import identify, load, load_into
from fineclip.checkpoints.safe import CheckpointError, install_safe_loader, read_checkpoint

__all__ = [
    "CheckpointError",
    "identify",
    "install_safe_loader",
    "load",
    "load_into",
    "read_checkpoint",
]
