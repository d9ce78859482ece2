"""Data sets, their transforms and collation, and the built-in scenes."""

from fineclip.datasets.evaluation import box_regions, image_captions
from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.multi_crop import MultiCrop
from fineclip.datasets.panoptic_regions import InstanceRegionDataset, PanopticRegionDataset
from fineclip.datasets.region_text import RegionTextDataset
from fineclip.datasets.region_text_batch import RegionTextBatch, collate_region_text
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.samplers import EpochSampler, ShardSampler
from fineclip.datasets.transforms import ImageTransform

__all__ = [
    "EpochSampler",
    "ImageTransform",
    "InstanceRegionDataset",
    "MultiCrop",
    "PanopticRegionDataset",
    "RegionTextBatch",
    "RegionTextDataset",
    "RetrievalDataset",
    "ShardSampler",
    "box_regions",
    "collate_evaluation",
    "collate_region_text",
    "image_captions",
]
