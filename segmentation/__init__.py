"""CatSeg open-vocabulary segmenters; registers its classes and data sets with detectron2.

Without detectron2 nothing is registered; :mod:`segmentation.modeling` is plain torch.
"""

from importlib.util import find_spec

import fineclip  # noqa: F401 - makes checkpoint readers safe, with or without the library

if find_spec("detectron2") is not None:
    from segmentation.data import register_datasets
    from segmentation.detectron2.config import add_cat_seg_config
    from segmentation.detectron2.head import CATSegHead
    from segmentation.detectron2.meta_arch import CATSeg
    from segmentation.detectron2.solver import build_optimizer

    __all__ = [
        "CATSeg",
        "CATSegHead",
        "add_cat_seg_config",
        "build_optimizer",
        "register_datasets",
    ]
