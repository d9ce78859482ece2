"""F-ViT open-vocabulary detectors for mmdet 3.x; registers its classes on import."""
