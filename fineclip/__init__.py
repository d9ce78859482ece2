"""FineCLIP: pretraining, dense features and evaluation of region-aware CLIP models."""

__version__ = "0.1.0"
