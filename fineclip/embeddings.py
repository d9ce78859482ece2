"""What objectives read: the embeddings of one batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Embeddings:
    """Embeddings of one batch; only what the configured objectives ask for is filled in.

    Letters: B images, R regions packed over the batch, D embedding. Regions are packed image by
    image; there are no padding rows. Rows need not have unit length: objectives compare
    directions.

    Attributes:
        image: (B, D) global image embeddings.
        text: (B, D) caption embeddings, row i of image i.
        region: (R, D) region embeddings pooled from the dense map.
        crop: (R, D) global embeddings of the region crops.
        region_text: (R, D) embeddings of the region captions.
        region_image: (R,) int64 image index of each region.
        logit_scale: () the learned log of the factor on cosine similarities.
    """

    image: Tensor | None = None
    text: Tensor | None = None
    region: Tensor | None = None
    crop: Tensor | None = None
    region_text: Tensor | None = None
    region_image: Tensor | None = None
    logit_scale: Tensor | None = None
