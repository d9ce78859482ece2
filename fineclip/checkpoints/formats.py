"""Loading a checkpoint of any known format under open_clip's names."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from fineclip.checkpoints.compare import check_finite, compare
from fineclip.checkpoints.open_clip import image_tower
from fineclip.checkpoints.safe import CheckpointError
from fineclip.checkpoints.source import format_of, read_source


def identify(path: str | Path) -> str:
    """Names the format of a checkpoint.

    Args:
        path: A file, or a folder that transformers wrote.

    Returns:
        One of ``"open_clip"``, ``"openai"`` (its releases, TorchScript archives included),
        ``"eva_clip"``, ``"huggingface"``, ``"fineclip"`` (a DenseCLIP, or an mmengine checkpoint of
        our pretraining), ``"fvit"`` and ``"catseg"``.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: The file cannot be read or its format is unknown.
    """
    return format_of(path)


def load(path: str | Path) -> dict[str, Tensor]:
    """Reads the CLIP of a checkpoint in any known format as an open_clip state dict.

    Args:
        path: A file, or a folder that transformers wrote.

    Returns:
        Names -> tensors in their stored precision. An F-ViT detector has the image tower alone.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: The file cannot be read, its format is unknown, or reading it would run
            code.
    """
    return read_source(path).clip


def load_into(model: nn.Module, path: str | Path, *, image_only: bool = False) -> None:
    """Loads a checkpoint into an open_clip model, every key and shape matching.

    Only ``logit_bias``, which the sigmoid losses add to a model, may be absent from the file: it
    then keeps its initial value.

    Args:
        model: Filled in place.
        path: A checkpoint of any known format.
        image_only: Load the image tower, which may be all that the file has; the rest of the
            model is left as it is.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: As :func:`load`, or keys or shapes differ from the model's, or values are
            not finite.
    """
    source = read_source(path, mmap=True)
    state_dict, expected = source.clip, model.state_dict()
    if image_only:
        state_dict, expected = image_tower(state_dict), image_tower(expected)
    elif not source.has_text:
        raise CheckpointError(
            f"{path} ({source.description}) holds an image tower alone; name the CLIP it was made "
            "from, or where images alone are embedded load it with image_only=True"
        )
    misfit = compare(state_dict, expected, optional=("logit_bias",))
    if misfit:
        hint = ""
        by_shape = misfit.shapes and not (misfit.missing or misfit.unknown or misfit.types)
        if by_shape and all("pos" in key for key, *_ in misfit.shapes):
            hint = (
                ". The position table is for another image size: resample it with "
                "tools/convert_checkpoint.py --image-size"
            )
        # As the file calls them.
        misfit = misfit.renamed(source.original)
        raise CheckpointError(
            f"{path} ({source.description}) does not fit the model; {misfit.describe()}{hint}"
        )
    check_finite(state_dict, path)
    model.load_state_dict(state_dict, strict=False)  # the comparison above is stricter
