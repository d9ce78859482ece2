"""F-ViT open-vocabulary detectors for mmdet 3.x; registers its classes on import.

Without mmdet nothing is registered.
"""

from importlib.util import find_spec

import fineclip  # noqa: F401 - makes checkpoint readers safe, with or without the library

if find_spec("mmdet") is not None:
    from detection import datasets, evaluation, models

    __all__ = ["datasets", "evaluation", "models"]
