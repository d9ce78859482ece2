"""Segmentation data sets; registers them with detectron2 where that is installed.

The modules ``seen_classes`` and ``preparation`` need no detectron2.
"""

from importlib.util import find_spec

from fineclip.datasets.label_maps import read_label_map
from segmentation.data.seen_classes import seen_classes

__all__ = ["read_label_map", "seen_classes"]

if find_spec("detectron2") is not None:
    from segmentation.data.catalog import check_class_lists, dataset_names, register_datasets
    from segmentation.data.mapper import MaskFormerSemanticDatasetMapper, build_dataset_mapper

    register_datasets()
    __all__ += [
        "MaskFormerSemanticDatasetMapper",
        "build_dataset_mapper",
        "check_class_lists",
        "dataset_names",
        "register_datasets",
    ]
