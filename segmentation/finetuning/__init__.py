"""A trained segmenter on data of one's own, and what it still knows of what it was trained on."""
