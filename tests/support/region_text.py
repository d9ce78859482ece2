"""Region-text data sets from one flat list of options, each handed to the part that takes it."""

from fineclip.datasets import RegionTextDataset

SOURCE = ("image_root", "annotations", "captions", "region_captions", "folder")
IMAGES = ("transform", "crop_transform", "crop_patch", "backend", "reduced_decoding")
TOP = ("tokenizer", "context_length", "fields", "views", "min_side", "num_images", "seed")


def region_text_dataset(regions="BoxRegions", **options):
    """A data set; ``folder`` is one of shards, what no other part takes belongs to the regions."""
    kind = "Shards" if "folder" in options else "AnnotationFiles"
    return RegionTextDataset(
        source={"type": kind, **_taken(options, SOURCE)},
        images=_taken(options, IMAGES),
        **_taken(options, TOP),
        regions={"type": regions, **options},
    )


def _taken(options, names):
    return {name: options.pop(name) for name in names if name in options}
