"""The scenes that experiments are made on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fineclip.scenes import make_scenes


def renew_scenes(out: str | Path, **settings: Any) -> dict[str, Any]:
    """Makes scenes, in place of scenes of other settings; those of the same settings are kept.

    Args:
        out: Folder of the scenes.
        **settings: See :func:`fineclip.scenes.make_scenes`; by default every core draws.

    Returns:
        Statistics per split.

    Raises:
        FileExistsError: The folder holds something else.
        ValueError: A number is out of range.
    """
    settings = {"workers": os.cpu_count() or 1, **settings}
    try:
        return make_scenes(out, **settings)
    except FileExistsError:
        # Scenes are replaced; anything else is refused once more.
        return make_scenes(out, **settings, overwrite=True)
