"""CatSeg open-vocabulary segmenters for detectron2; registers its classes on import."""
