"""Which dense map CAT-Seg reads: the one that its start weights were trained with.

The last block of the image tower runs without attention, and adds its output either to each token
itself or to the class token. CAT-Seg's release does the latter; the dense map that FineCLIP,
CLIPSelf or RegionCLIP train is the former. A plain CLIP was trained with neither.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import open_clip

from fineclip import objectives
from fineclip.checkpoints.provenance import RESIDUAL_KEY
from fineclip.checkpoints.source import read_source
from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config
from fineclip.models import DenseCLIP
from fineclip.models.trunks import Residual

AskedResidual = Literal["auto", "own", "class_token"]
_WORDS = {"own": "each token's own residual", "class_token": "the class token's residual"}
RELEASED_RESIDUAL: Residual = "class_token"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where start weights come from.

    Attributes:
        text: In words.
        residual: The reading of the dense map that they were trained with; None: neither.
        known: Whether anything is known of their training.
    """

    text: str
    residual: Residual | None = None
    known: bool = True


def origin_of(name: str, weights: str | Path) -> Origin:
    """Finds out where the weights of a CLIP come from.

    Checkpoints of pretraining, and what is converted from them to safetensors, say what they were
    trained with; so does the ``plain_config.json`` beside a checkpoint.

    Args:
        name: Of the model, as open_clip calls it.
        weights: A tag of it, or a file.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: It cannot be read.
    """
    if str(weights) in open_clip.list_pretrained_tags_by_model(name):
        return Origin(f"{weights} is a plain CLIP")
    source = read_source(weights, mmap=True)
    said, file = source.provenance, source.path
    if said.residual:
        return Origin(f"{file} was trained by CAT-Seg", said.residual)
    if source.format == "catseg" and source.rest:
        return Origin(f"{file} was trained as CAT-Seg's release", RELEASED_RESIDUAL)
    names = said.objectives
    if source.format == "fineclip" and not names:
        names = _objectives_beside(file)
    needs = {name: getattr(getattr(objectives, name, None), "needs", None) for name in names}
    by = f"{file} was trained by {', '.join(names)}"
    if any("region" in fields for fields in needs.values() if fields):
        return Origin(by, "own")
    if names and None not in needs.values():
        return Origin(f"{by}, without regions")
    if source.format == "openai":
        return Origin(f"{file} is a plain CLIP")
    if names:
        return Origin(f"{by}, which this package does not know", known=False)
    return Origin(f"{file} ({source.description}) does not say how it was trained", known=False)


def choose_residual(
    asked: AskedResidual, clip: DenseCLIP, origin: Origin | None = None
) -> Residual:
    """Decides which dense map is read, and says so.

    Args:
        asked: "own", "class_token", or "auto": as the weights were trained, and where they were
            trained with neither, or nothing is known, as the release does.
        clip: The model.
        origin: Of its weights; None: they are random, or a checkpoint of the whole segmenter will
            replace them.

    Raises:
        ValueError: An unknown word.
    """
    if asked not in get_args(AskedResidual):
        known = ", ".join(get_args(AskedResidual))
        raise ValueError(f"{RESIDUAL_KEY}: unknown residual {asked!r}; known: {known}")
    trained = origin.residual if origin else None
    # A tower without tokens is refused later, by the predictor.
    possible = getattr(clip.trunk, "num_prefix_tokens", 1) > 0
    chosen = (trained or (RELEASED_RESIDUAL if possible else "own")) if asked == "auto" else asked
    if origin is None:
        return chosen
    line = f"CAT-Seg reads the dense map with {_WORDS[chosen]}"
    if trained not in (None, chosen):
        _log.warning(
            "%s, but %s with %s: set %s to %s, or to auto",
            *(line, origin.text, _WORDS[str(trained)], RESIDUAL_KEY, trained),
        )
    elif asked == "auto" and possible and not origin.known:
        _log.warning(
            "%s, as CAT-Seg's release does: %s; set %s to own if FineCLIP, CLIPSelf or RegionCLIP "
            "refined these weights, and to %s if not",
            *(line, origin.text, RESIDUAL_KEY, chosen),
        )
    else:
        _log.info("%s: %s", line, origin.text)
    return chosen


def read_as_trained(predictor: Any, residual: str | None, path: str | Path) -> None:
    """Lets a segmenter read the dense map as the checkpoint that is loaded into it was trained.

    Args:
        predictor: A :class:`segmentation.modeling.Predictor`; changed in place.
        residual: What the checkpoint says; None: nothing.
        path: Its name.
    """
    if residual not in (None, predictor.residual):
        _log.info("%s was trained with %s and is read so", path, _WORDS[str(residual)])
        predictor.residual = residual


def _objectives_beside(file: Path) -> tuple[str, ...]:
    """Names of the objectives in the config that a training has left beside its weights."""
    config = file.with_name(PLAIN_CONFIG)
    if not config.is_file():
        return ()
    model = read_plain_config(config)._cfg_dict.to_dict().get("model")
    listed = model.get("objectives") if isinstance(model, dict) else None
    listed = listed if isinstance(listed, list) else []
    types = [item.get("type") for item in listed if isinstance(item, dict)]
    names = (kind.rpartition(".")[2] for kind in types if isinstance(kind, str))
    return tuple(name for name in names if name.isidentifier())
