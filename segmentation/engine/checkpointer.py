"""detectron2's checkpointer without unpickling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from fineclip.checkpoints import CheckpointError, read_checkpoint
from fineclip.checkpoints.compare import check_finite, compare
from fineclip.checkpoints.source import provenance_at
from fineclip.checkpoints.state_dict import state_dict_of
from fineclip.checkpoints.write import save_torch
from fineclip.work_dir import INTERRUPTED, last_checkpoint, point_to
from segmentation.modeling import load_checkpoint
from segmentation.modeling.reading import read_as_trained


class SafeCheckpointer(DetectionCheckpointer):
    """Reads tensors and plain values only; a file that does not fit the model is an error.

    detectron2's own falls back to unpickling, which runs whatever code a file holds, and loads
    what fits of a file that does not.

    Attributes:
        saved_iteration: Of the last save; None: nothing was saved.
    """

    saved_iteration: int | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``NAME.pth`` to the folder of checkpoints, under its name only when complete."""
        if not self.save_dir or not self.save_to_disk:
            return
        self.saved_iteration = kwargs.get("iteration")
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        file = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", file)
        save_torch(file, {"model": self.model.state_dict(), **states, **kwargs})
        self.tag_last_checkpoint(file.name)
        if file.name != INTERRUPTED:
            file.with_name(INTERRUPTED).unlink(missing_ok=True)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes which file a resumed run starts from."""
        point_to(Path(self.save_dir, last_filename_basename))

    def has_checkpoint(self) -> bool:
        """Whether there is a file to resume from.

        Raises:
            WorkDirError: What should name it is empty, or names a file that does not exist.
        """
        return last_checkpoint(self.save_dir) is not None

    def get_checkpoint_file(self) -> str:
        """The file to resume from; empty where there is none."""
        return str(last_checkpoint(self.save_dir) or "")

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            raise CheckpointError(
                f"{filename} was refused: reading a .pkl file can run any code that its author "
                "put there; save its state dict with torch.save, or as safetensors, where you "
                "trust its origin"
            )
        loaded = read_checkpoint(filename)
        tensors = state_dict_of(loaded, filename)
        others = loaded if isinstance(loaded.get("model"), Mapping) else {}
        return {**others, "model": tensors, _FILE: filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        file, tensors = checkpoint.pop(_FILE), checkpoint.pop("model")
        if compare(tensors, self.model.state_dict()):
            # A release's file, or one of another kind, which this explains.
            load_checkpoint(self.model, file)
        else:
            check_finite(tensors, file)
            self.model.load_state_dict(tensors)
            read_as_trained(self.model.sem_seg_head.predictor, provenance_at(file).residual, file)


_FILE = "__file__"
