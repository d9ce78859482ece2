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

    @property
    def share(self) -> Share | None:
        """None: whoever evaluates a loss answers for all rows. See :class:`SharedEmbeddings`."""
        return None

    @property
    def own(self) -> Embeddings:
        """The rows this process answers for: all of them unless there is a ``share``."""
        return self if self.share is None else self.share.own

    @property
    def num_regions(self) -> int:
        """Number of regions of the global batch; needs ``region``."""
        return len(self.region) if self.share is None else self.share.num_regions


@dataclass(frozen=True)
class Share:
    """The part of a global batch that one process answers for.

    Attributes:
        own: The process's own embeddings, before they were gathered.
        first_image: Index of its first image in the global batch.
        first_region: Index of its first region in the global batch.
        num_regions: Number of regions of the global batch.
        num_processes: Number of processes that share the batch.
    """

    own: Embeddings
    first_image: int
    first_region: int
    num_regions: int
    num_processes: int


@dataclass
class SharedEmbeddings(Embeddings):
    """The embeddings of a global batch of which one process evaluates its own rows only.

    Fields that nobody compares with other rows of the batch are None and found in ``own`` alone.

    Attributes:
        share: What this process answers for.
    """

    share: Share | None = None
