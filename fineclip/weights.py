"""What is meant by weights: a file, a tag of open_clip's, or the work dir of a training."""

from __future__ import annotations

from pathlib import Path

from fineclip.work_dir import POINTER, last_checkpoint

CONFIG_FILE = "config.yaml"
"""What a training of detectron2's calls the configuration that it leaves beside its weights."""

_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")


def is_work_dir(path: str | Path) -> bool:
    """Whether a folder is one that a training has left checkpoints in."""
    return (Path(path) / POINTER).is_file()


def weights_file(path: str | Path) -> Path:
    """The file of weights that is meant by it or by the work dir of its training.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The work dir's pointer is empty or names what does not exist.
    """
    path = Path(path)
    if path.is_dir():
        last = last_checkpoint(path)
        if last is None:
            raise FileNotFoundError(
                f"{path} holds no checkpoint of a training ({POINTER}); name a file of weights"
            )
        return last
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    return path


def resolved(weights: str | Path) -> str:
    """A work dir's last checkpoint; anything else (a file, a tag, another folder) as it is."""
    return str(weights_file(weights) if is_work_dir(weights) else weights)


def is_file_name(weights: str) -> bool:
    """Whether weights are a path, and no tag of open_clip's and no address."""
    return "://" not in weights and ("/" in weights or Path(weights).suffix in _SUFFIXES)


def check_weights(weights: str | None, option: str = "--weights") -> None:
    """Refuses weights that are a path where there is nothing; a tag may be anything else.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    if weights is not None and is_file_name(weights) and not Path(weights).exists():
        raise FileNotFoundError(f"{option}: checkpoint {weights} does not exist")


def config_beside(weights: str | Path) -> Path | None:
    """The configuration that a training of detectron2's has written beside its weights."""
    file = Path(weights).parent / CONFIG_FILE
    return file if file.is_file() else None


def quickstart_result(path: Path) -> Path:
    """What the quickstart has trained, for tools that are asked without weights.

    Raises:
        FileNotFoundError: It was not run yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: run bash tools/quickstart.sh, or name trained --weights"
        )
    return path
