"""Open-vocabulary detection data sets for mmdet 3.x; registers its classes on import.

Without mmdet nothing is registered; annotation files can be prepared all the same.
"""

from importlib.util import find_spec

from detection.datasets.preparation import prepare_ov_coco, prepare_ov_lvis

__all__ = ["prepare_ov_coco", "prepare_ov_lvis"]

if find_spec("mmdet") is not None:
    from detection.datasets.indices import CocoAnnotations, LvisAnnotations
    from detection.datasets.loading import LoadOrientedImage
    from detection.datasets.open_vocabulary import (
        OpenVocabularyCocoDataset,
        OpenVocabularyLVISDataset,
    )
    from detection.datasets.rehearsal import RehearsedDataset

    __all__ += [
        "CocoAnnotations",
        "LoadOrientedImage",
        "LvisAnnotations",
        "OpenVocabularyCocoDataset",
        "OpenVocabularyLVISDataset",
        "RehearsedDataset",
    ]
