"""Annotation files in COCO's formats: read, mended aloud or refused by name, in one place."""

from fineclip.annotations.boxes import audit_boxes, file_name_of, mask_of, read_boxes
from fineclip.annotations.captions import (
    Captions,
    audit_caption_list,
    audit_captions,
    audit_region_captions,
    read_captions,
    read_region_captions,
)
from fineclip.annotations.masks import decode_segmentation
from fineclip.annotations.panoptic import audit_panoptic, read_panoptic
from fineclip.annotations.reading import Audit, audit_file, read_audited
from fineclip.annotations.report import FileReport, Finding, announce

__all__ = [
    "Audit",
    "Captions",
    "Finding",
    "FileReport",
    "announce",
    "audit_boxes",
    "audit_caption_list",
    "audit_captions",
    "audit_file",
    "audit_panoptic",
    "audit_region_captions",
    "decode_segmentation",
    "file_name_of",
    "mask_of",
    "read_audited",
    "read_boxes",
    "read_captions",
    "read_panoptic",
    "read_region_captions",
]
