"""Names of open_clip models, told without importing open_clip (which takes seconds)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fineclip.checks import nearest


@cache
def _descriptions() -> dict[str, Path]:
    """The file that describes each model by name: open_clip's own, and this package's."""
    found: dict[str, Path] = {}
    for package, folder in (("open_clip", "model_configs"), ("fineclip", "tiny_models")):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            files = (Path(spec.origin).parent / folder).glob("*.json")
            found |= {file.stem: file for file in files}
    return found


def check_model_name(name: str, option: str) -> None:
    """Refuses what is no model's name. One with a colon (``hf-hub:...``) is taken as it is.

    Args:
        name: The name, in which open_clip takes ``/`` for ``-``.
        option: Who gives it, for the message.

    Raises:
        ValueError: There is no such model.
    """
    known, word = _descriptions(), name.replace("/", "-")
    if ":" not in name and word not in known:
        raise ValueError(
            f"{option}: unknown model {name!r}; {nearest(word, known)} "
            "(open_clip.list_models() lists the names)"
        )


def patch_side(name: str) -> int | None:
    """Pixels that the sides of images of a model are a multiple of; None where it is not said."""
    file = _descriptions().get(name.replace("/", "-"))
    tower: Any = json.loads(file.read_text()).get("vision_cfg", {}) if file else {}
    if isinstance(side := tower.get("patch_size"), int) and "timm_model_name" not in tower:
        return None if isinstance(tower.get("layers"), list) else side
    found = re.search(r"_patch(\d+)", tower.get("timm_model_name", ""))
    return int(found[1]) if found else None


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of a model with a ViT as image tower.

    Attributes:
        patch: Side of a patch in pixels.
        width: Channels of its tokens.
        blocks: Transformer blocks.
        embed_dim: Channels of the CLIP's embeddings.
    """

    patch: int
    width: int
    blocks: int
    embed_dim: int


# Width and blocks by timm's word for them.
_TIMM_SIZES = {
    "micro": (96, 3),
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
}


def tower_sizes(name: str) -> TowerSizes | None:
    """Sizes of a model's image tower; None where it is no ViT, or they are not known."""
    file, patch = _descriptions().get(name.replace("/", "-")), patch_side(name)
    if file is None or patch is None:
        return None
    model = json.loads(file.read_text())
    tower = model["vision_cfg"]
    if found := re.search(r"_([a-z]+)_patch", tower.get("timm_model_name", "")):
        if found[1] not in _TIMM_SIZES:
            return None
        width, blocks = _TIMM_SIZES[found[1]]
    else:
        width, blocks = tower["width"], tower["layers"]
    return TowerSizes(patch, width, blocks, model["embed_dim"])
