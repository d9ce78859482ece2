"""What objectives read: the embeddings of one batch."""

# ruff: noqa: RUF009 - the calls that are defaults here make fields.

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

RowGroup = Literal["image", "region"]
"""What the rows of a field belong to; fields of one group have equally many rows."""


@dataclass(frozen=True)
class FieldSpec:
    """What encoding and gathering have to know of a field of :class:`Embeddings`.

    Attributes:
        rows: What it has one row for; such rows are gathered over processes. None: all processes
            have the same, and nothing is gathered.
        inputs: The fields of a batch that it is made of.
        otherwise: Those it can be made of where ``inputs`` are missing.
        row_dim: Dimension that the rows are counted along.
    """

    rows: RowGroup | None = None
    inputs: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    row_dim: int = 0


# The next three declare a field. One that nobody asked for holds None. For type checkers it is a
# tensor all the same: an objective refuses embeddings without what it needs before it reads any.


def _per_image(*inputs: str, row_dim: int = 0) -> Any:
    return field(default=None, metadata={"spec": FieldSpec("image", inputs, row_dim=row_dim)})


def _per_region(*inputs: str, otherwise: tuple[str, ...] = ()) -> Any:
    return field(default=None, metadata={"spec": FieldSpec("region", inputs, otherwise)})


def _shared() -> Any:
    return field(default=None, metadata={"spec": FieldSpec()})


@dataclass
class Embeddings:
    """Embeddings of one batch; only what the configured objectives ask for is filled in.

    Letters: B images, R regions packed over the batch, D embedding, K categories, N patches of an
    image, T tokens of a caption, P prototypes, V_s and V_t views of an image. Regions are packed
    image by image; there are no padding rows. Rows need not have unit length: objectives compare
    directions.

    What a field is made of and what its rows are is declared with the field, and nowhere else:
    :data:`FIELDS` is what reads a batch and what gathers over processes go by.

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
        global_view: (V_t, B, D) the model's own embeddings of the teacher's views.
        patches: (B, N, D) embeddings of the image's patches, in the joint space with text.
        text_tokens: (B, T, D) token embeddings of the captions, row i of image i.
        text_mask: (B, T) bool, true where a token of the caption is not padding.
    """

    image: Tensor = _per_image("images")
    text: Tensor = _per_image("texts")
    region: Tensor = _per_region("images", "boxes", "region_image")
    crop: Tensor = _per_region("crops")
    region_text: Tensor = _per_region("region_texts")
    region_image: Tensor = _per_region("region_image")
    logit_scale: Tensor = _shared()
    logit_bias: Tensor = _shared()
    teacher_crop: Tensor = _per_region("crops")
    # Regions without label are labelled by what the teacher sees in their crops.
    region_label: Tensor = _per_region("region_labels", otherwise=("crops",))
    vocabulary: Tensor = _shared()
    # Views come first: the same view of all images is one matrix.
    student_prototypes: Tensor = _per_image("local_views", row_dim=1)
    teacher_prototypes: Tensor = _per_image("global_views", row_dim=1)
    global_view: Tensor = _per_image("global_views", row_dim=1)
    patches: Tensor = _per_image("images")
    text_tokens: Tensor = _per_image("texts")
    text_mask: Tensor = _per_image("texts")

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
        if self.share is not None:
            return self.share.num_regions
        assert self.region is not None
        return len(self.region)


FIELDS: dict[str, FieldSpec] = {item.name: item.metadata["spec"] for item in fields(Embeddings)}
"""The fields of :class:`Embeddings` by name."""


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
