"""F-ViT open-vocabulary detectors for mmdet 3.x; registers its classes on import."""

from detection import datasets, evaluation, models

__all__ = ["datasets", "evaluation", "models"]
