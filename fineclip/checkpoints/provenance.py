"""What a checkpoint says of the training that its weights come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PROVENANCE = "provenance"
"""The key it has in torch files that a conversion writes, beside the weights."""
RESIDUAL_KEY = "MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL"

_OBJECTIVE = re.compile(r"model\.objectives\.\d+\.type")
_NAME = re.compile(r"\w+")
_OBJECTIVES, _RESIDUAL = "objectives", "residual"


@dataclass(frozen=True)
class Provenance:
    """What is known of a training; nothing of it where the file says nothing.

    Attributes:
        objectives: Names of the objectives of a pretraining.
        residual: How CAT-Seg was trained to read the dense map ("own" or "class_token", see
            :meth:`fineclip.models.trunks.TransformerTrunk.forward_taps`).
    """

    objectives: tuple[str, ...] = ()
    residual: Literal["own", "class_token"] | None = None

    def strings(self) -> dict[str, str]:
        """As strings, for the header of a safetensors file; :func:`provenance_in` reads them."""
        found = {_OBJECTIVES: " ".join(self.objectives), _RESIDUAL: self.residual or ""}
        return {key: value for key, value in found.items() if value}


def provenance_of(checkpoint: Any) -> Provenance:
    """Of a loaded torch file: a checkpoint of pretraining or of CAT-Seg, or a converted one."""
    found = _part(checkpoint, PROVENANCE)
    pretraining = _part(_part(checkpoint, "meta"), "settings")
    segmentation = _part(_part(checkpoint, "trainer"), "settings")
    objectives = [
        value.rpartition(".")[2]
        for key, value in pretraining.items()
        if isinstance(key, str) and _OBJECTIVE.fullmatch(key) and isinstance(value, str)
    ]
    own = {_OBJECTIVES: " ".join(objectives), _RESIDUAL: segmentation.get(RESIDUAL_KEY)}
    return provenance_in({**own, **found})


def provenance_in(strings: Mapping[str, Any]) -> Provenance:
    """From the strings of a header; what they cannot mean is left out."""
    objectives, residual = strings.get(_OBJECTIVES), strings.get(_RESIDUAL)
    names = _NAME.findall(objectives) if isinstance(objectives, str) else ()
    return Provenance(tuple(names), residual if residual in ("own", "class_token") else None)


def _part(node: Any, key: str) -> Mapping[Any, Any]:
    found = node.get(key) if isinstance(node, Mapping) else None
    return found if isinstance(found, Mapping) else {}
