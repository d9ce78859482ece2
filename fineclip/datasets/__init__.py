"""Data sets, their transforms and collation, and the built-in scenes."""

from fineclip.datasets.evaluation import box_regions, image_captions
from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.grid_regions import GridRegions
from fineclip.datasets.image_reader import ImageReader
from fineclip.datasets.multi_crop import MultiCrop
from fineclip.datasets.panoptic_regions import InstanceRegionDataset, PanopticRegionDataset
from fineclip.datasets.region_source import AnnotationFiles
from fineclip.datasets.region_text import RegionTextDataset
from fineclip.datasets.region_text_batch import RegionTextBatch, collate_region_text
from fineclip.datasets.regions import BoxRegions
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.samplers import EpochSampler, ShardSampler
from fineclip.datasets.shaped_crops import ShapedCrops
from fineclip.datasets.shards import Shards
from fineclip.datasets.transforms import ImageTransform

__all__ = [
    "AnnotationFiles",
    "BoxRegions",
    "EpochSampler",
    "GridRegions",
    "ImageReader",
    "ImageTransform",
    "InstanceRegionDataset",
    "MultiCrop",
    "PanopticRegionDataset",
    "RegionTextBatch",
    "RegionTextDataset",
    "RetrievalDataset",
    "ShapedCrops",
    "ShardSampler",
    "Shards",
    "box_regions",
    "collate_evaluation",
    "collate_region_text",
    "image_captions",
]
