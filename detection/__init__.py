"""F-ViT open-vocabulary detectors for mmdet 3.x; registers its classes on import.

Without mmdet nothing is registered.
"""

import io
from contextlib import redirect_stdout
from importlib.util import find_spec

import fineclip  # noqa: F401 - makes checkpoint readers safe, with or without the library

if find_spec("mmdet") is not None:
    # mmdet prints twice that it does without OneDL, which nothing here needs.
    with redirect_stdout(io.StringIO()) as _printed:
        from detection import datasets, evaluation, models

    for _line in _printed.getvalue().splitlines():
        if not _line.startswith("Could not import OneDL"):
            print(_line)

    __all__ = ["datasets", "evaluation", "models"]
