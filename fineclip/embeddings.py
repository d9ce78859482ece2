"""What objectives read: the embeddings of one batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Embeddings:
    """Embeddings of one batch; only what the configured objectives ask for is filled in.

    Letters: B images, R regions packed over the batch, D embedding, K categories, N patches of an
    image, T tokens of a caption, P prototypes, V_s and V_t views of an image. Regions are packed
    image by image; there are no padding rows. Rows need not have unit length: objectives compare
    directions.

    Attributes:
        image: (B, D) global image embeddings.
        text: (B, D) caption embeddings, row i of image i.
        region: (R, D) region embeddings pooled from the dense map.
        crop: (R, D) global embeddings of the region crops.
        region_text: (R, D) embeddings of the region captions.
        region_image: (R,) int64 image index of each region.
        logit_scale: () the learned log of the factor on cosine similarities.
        logit_bias: () the learned bias added to scaled similarities (sigmoid losses).
        teacher_crop: (R, D) global embeddings of the region crops by a frozen teacher.
        region_label: (R,) int64 category of each region, an index into ``vocabulary``; -1 for none.
        vocabulary: (K, D) category embeddings, the same on all processes.
        student_prototypes: (V_s, B, P) prototype logits of the model's views of each image.
        teacher_prototypes: (V_t, B, P) prototype logits of the EMA teacher's views.
        patches: (B, N, D) embeddings of the image's patches, in the joint space with text.
        text_tokens: (B, T, D) token embeddings of the captions, row i of image i.
        text_mask: (B, T) bool, true where a token of the caption is not padding.
    """

    image: Tensor | None = None
    text: Tensor | None = None
    region: Tensor | None = None
    crop: Tensor | None = None
    region_text: Tensor | None = None
    region_image: Tensor | None = None
    logit_scale: Tensor | None = None
    logit_bias: Tensor | None = None
    teacher_crop: Tensor | None = None
    region_label: Tensor | None = None
    vocabulary: Tensor | None = None
    student_prototypes: Tensor | None = None
    teacher_prototypes: Tensor | None = None
    patches: Tensor | None = None
    text_tokens: Tensor | None = None
    text_mask: Tensor | None = None
