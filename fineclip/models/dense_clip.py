"""DenseCLIP: global, text, dense and region embeddings of any supported open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fineclip.images import orientation_of
from fineclip.models.creation import create_open_clip
from fineclip.models.dense_maps import find_dense_map
from fineclip.models.pooling import pack_regions, pool_boxes, pool_masks
from fineclip.models.preprocessing import image_to_tensor, size_of_aspect
from fineclip.models.text_tower import TextTower
from fineclip.models.trunks import build_trunk
from fineclip.registry import MODELS
from fineclip.text.tokenizers import get_tokenizer


class DenseCLIP(nn.Module):
    """A CLIP model that also embeds every location and every region of an image.

    The wrapped model is untouched: its parameters keep open_clip's names under ``clip.``.
    Images are expected normalised with :attr:`image_mean` and :attr:`image_std`, at any size that
    is a multiple of the patch; position tables are resampled to the input on the fly.
    Embeddings come out in float32 when normalised, whatever autocast is active.

    Args:
        clip_model: An open_clip model (``CLIP`` or ``CustomTextCLIP``) whose visual tower has an
            adapter in :mod:`fineclip.models.trunks`.
        tokenizer: Maps a list of strings to (n, T) int64 token ids; by default CLIP's tokenizer
            at the model's context length.
        freeze_batch_norm: Batch normalisation of the visual tower uses its running statistics in
            training too; its weights and biases still train. An embedding then depends on its
            own image alone, not on the batch, the chunk or the process it is computed in, and
            images and region crops are embedded by the same function. False: statistics of each
            batch, which a ResNet that starts from random weights needs. Towers without batch
            normalisation (all ViTs) are not concerned.
        image_only: Only the image tower has weights that mean something: embedding a text is an
            error.

    Raises:
        ValueError: If the visual tower is not supported.
    """

    clip: Any  # open_clip's models differ in what they hold

    def __init__(
        self,
        clip_model: nn.Module,
        *,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        freeze_batch_norm: bool = True,
        image_only: bool = False,
    ) -> None:
        super().__init__()
        self.image_only = image_only
        self.clip = clip_model
        self.trunk = build_trunk(self.clip.visual)
        self.text_tower = TextTower(clip_model)
        self.freeze_batch_norm = freeze_batch_norm
        self._tokenizer = tokenizer
        self._make_tokenizer: Callable[[], Callable[[list[str]], Tensor]] | None = None
        self._hold_batch_norm()

    @classmethod
    def create(
        cls,
        name: str,
        pretrained: str | None = None,
        *,
        freeze_batch_norm: bool = True,
        image_only: bool = False,
        **kwargs: object,
    ) -> DenseCLIP:
        """Makes a model by open_clip name.

        Without a tag of open_clip's, pixel mean and std are those that all published weights of
        the name share (0.5 for SigLIP), and OpenAI's where they differ or there are none.

        Args:
            name: A name open_clip knows (``open_clip.list_models()``), this package's tiny models
                included.
            pretrained: An open_clip tag of the name, or the path of a local checkpoint in a format
                that :func:`fineclip.checkpoints.load` reads. None: random weights.
            freeze_batch_norm: See :class:`DenseCLIP`.
            image_only: Load the image tower, which may be all that the checkpoint has (one that
                was saved alone, or a detector's), and embed images only.
            **kwargs: Passed to ``open_clip.create_model``.

        Raises:
            ValueError: Unknown name or tag, or a checkpoint that does not fit the model.
            FileNotFoundError: ``pretrained`` looks like a path and does not exist.
        """
        model = create_open_clip(name, pretrained, image_only=image_only, **kwargs)
        dense_clip = cls(model, freeze_batch_norm=freeze_batch_norm, image_only=image_only)
        dense_clip._make_tokenizer = partial(
            get_tokenizer, name, kwargs.get("force_context_length")
        )
        return dense_clip

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Maps a list of strings to (n, T) int64 token ids.

        Made when first asked for, as some have to be downloaded (SigLIP's) and images need none.

        Raises:
            OSError: The tokenizer could not be downloaded.
        """
        if self._tokenizer is not None:
            return self._tokenizer
        if self._make_tokenizer is not None:
            return self._make_tokenizer()
        return open_clip.SimpleTokenizer(context_length=self.context_length)

    @property
    def context_length(self) -> int:
        """Number of text tokens T."""
        return getattr(self.clip, "context_length", None) or self.clip.text.context_length

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels the model was made for."""
        size = self.clip.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return self.trunk.patch_size

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Channel means the input is normalised with, for RGB in [0, 1]."""
        return self._preprocess_value("mean", open_clip.OPENAI_DATASET_MEAN)

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Channel standard deviations the input is normalised with, for RGB in [0, 1]."""
        return self._preprocess_value("std", open_clip.OPENAI_DATASET_STD)

    def preprocess(
        self,
        image: Image.Image,
        size: int | tuple[int, int] | None = None,
        *,
        keep_aspect: bool = False,
    ) -> Tensor:
        """Makes the input of one image: upright, resized as a whole (bilinear), normalised.

        Nothing is cropped or padded, so boxes in [0, 1] of the image are boxes in [0, 1] of the
        input. ``torch.stack`` makes a batch of several of one size, ``[None]`` of one.

        Args:
            image: Of any mode; its EXIF orientation is applied.
            size: (height, width) in pixels, or the side of a square; multiples of the patch. None:
                :attr:`image_size`.
            keep_aspect: Near the image's own aspect ratio instead, for at most as many patches as
                ``size`` has. False: squashed to ``size``, as FineCLIP is trained and evaluated.

        Returns:
            (3, H, W) float32 on the model's device.

        Raises:
            ValueError: A size that is no multiple of the patch.
            UnusableImageError: Pixel values that cannot be turned into 8 bits.
        """
        wanted = self.image_size if size is None else size
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        rows, columns = self.patch_size
        if min(height, width) < 1 or height % rows or width % columns:
            raise ValueError(
                f"size: expected multiples of the patch, {rows} x {columns} pixels, got "
                f"{height} x {width}"
            )
        if keep_aspect:
            sides = image.size[::-1] if orientation_of(image) >= 5 else image.size
            height, width = size_of_aspect(*sides, (height, width), self.patch_size)
        pixels = image_to_tensor(image, (height, width), self.image_mean, self.image_std)
        return pixels.to(self.device)

    def _preprocess_value(self, key: str, default: Sequence[float]) -> tuple[float, float, float]:
        values = (open_clip.get_model_preprocess_cfg(self.clip) or {}).get(key) or default
        red, green, blue = values
        return red, green, blue

    @property
    def embed_dim(self) -> int:
        """Width D of the shared embedding space."""
        projection = getattr(self.clip, "text_projection", None)
        if projection is None:
            projection = self.clip.text.text_projection
        if isinstance(projection, nn.Linear):
            return projection.out_features
        return projection.shape[1]

    @property
    def logit_scale(self) -> Tensor:
        """() the learned log of the factor on cosine similarities."""
        return self.clip.logit_scale

    @property
    def logit_bias(self) -> Tensor | None:
        """() what a sigmoid loss adds to scaled similarities (SigLIP); None without one."""
        return getattr(self.clip, "logit_bias", None)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.clip.logit_scale.device

    def train(self, mode: bool = True) -> DenseCLIP:
        """Batch normalisation stays in eval mode where it is frozen."""
        super().train(mode)
        self._hold_batch_norm()
        return self

    def _hold_batch_norm(self) -> None:
        if self.freeze_batch_norm:
            for module in self.clip.visual.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()

    def compile_blocks(self, **options: Any) -> None:
        """Runs the blocks of both towers through ``torch.compile``, from their next call on.

        In place, parameters keep their names. Blocks of a kind share one compilation, which takes
        seconds where a whole tower takes minutes.

        Args:
            **options: Of ``torch.compile``, such as ``mode`` or ``backend``.
        """
        for block in (*self.trunk.stages, *self.text_tower.blocks):
            block.compile(**options)

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Global embeddings.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise the result.

        Returns:
            (B, D).
        """
        return self.encode_visual(images, {"image"}, normalize)["image"]

    def encode_text(self, tokens: Tensor, normalize: bool = True) -> Tensor:
        """Text embeddings; padding after the longest text costs nothing (:class:`TextTower`).

        Args:
            tokens: (B, T) int64 token ids.
            normalize: L2-normalise the result.

        Returns:
            (B, D).

        Raises:
            ValueError: The model is one of images only.
        """
        self._require_text()
        embedding = self.text_tower.encode(_at_least_one(tokens))
        return _finish(embedding[: len(tokens)], normalize)

    def _require_text(self) -> None:
        if self.image_only:
            raise ValueError(
                "this model was made with image_only=True: its text tower has no weights"
            )

    def encode_dense(
        self,
        images: Tensor,
        normalize: bool = True,
        *,
        dense_map: str = "value",
        guide: Tensor | None = None,
    ) -> Tensor:
        """An embedding per location: the last attention replaced by its value path, projected.

        That is the last block of a ViT and the pooling of a ResNet or SigLIP; each adapter in
        :mod:`fineclip.models.trunks` says it exactly.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise along D.
            dense_map: What else the last attention is replaced by, one of
                :data:`fineclip.models.dense_maps.DENSE_MAPS`.
            guide: (B, C, h', w') features of a second model, which "proxyclip" needs.

        Returns:
            (B, D, h, w) on the patch grid.

        Raises:
            ValueError: Unknown ``dense_map``, one that the tower does not have, or no ``guide``.
        """
        outputs = {"dense"}
        return self.encode_visual(images, outputs, normalize, dense_map=dense_map, guide=guide)[
            "dense"
        ]

    def encode_image_and_dense(
        self, images: Tensor, normalize: bool = True
    ) -> tuple[Tensor, Tensor]:
        """:meth:`encode_image` and :meth:`encode_dense` with what they share run once.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise along D.

        Returns:
            (B, D) and (B, D, h, w).
        """
        found = self.encode_visual(images, {"image", "dense"}, normalize)
        return found["image"], found["dense"]

    def encode_patches(self, images: Tensor, normalize: bool = True) -> Tensor:
        """An embedding per location from the last attention as it is, not replaced.

        The patch tokens after the last block, through final norm and projection; each adapter in
        :mod:`fineclip.models.trunks` says it exactly. Token-level objectives (FILIP, SPARC, PACL)
        read these; regions are pooled from :meth:`encode_dense`.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise along D.

        Returns:
            (B, N, D), N = h * w locations of the patch grid row by row.
        """
        return self.encode_visual(images, {"patches"}, normalize)["patches"]

    def encode_visual(
        self,
        images: Tensor,
        outputs: Collection[str],
        normalize: bool = True,
        *,
        dense_map: str = "value",
        guide: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Any of the embeddings of an image, with what they share run once.

        Args:
            images: (B, 3, H, W) float.
            outputs: Which: "image" as :meth:`encode_image`, "dense" as :meth:`encode_dense`,
                "patches" as :meth:`encode_patches`.
            normalize: L2-normalise along D.
            dense_map: See :meth:`encode_dense`.
            guide: See :meth:`encode_dense`.

        Returns:
            By name (B, D), (B, D, h, w) and (B, N, D).

        Raises:
            ValueError: For an unknown output; and see :meth:`encode_dense`.
        """
        if unknown := sorted(set(outputs) - {"image", "dense", "patches"}):
            raise ValueError(f"unknown outputs {unknown}; known: image, dense, patches")
        how = find_dense_map(dense_map)
        if not outputs:
            return {}
        state = self.trunk.forward_shared(_at_least_one(images))
        found = {}
        if "patches" in outputs:
            found["image"], found["patches"] = self.trunk.global_and_patch_heads(state)
        elif "image" in outputs:
            found["image"] = self.trunk.global_head(state)
        if "dense" in outputs:
            found["dense"] = self.trunk.dense_head(state, how, guide)
        return {
            name: _finish(found[name][: len(images)], normalize, dim=2 if name == "patches" else 1)
            for name in outputs
        }

    def encode_text_tokens(self, tokens: Tensor, normalize: bool = True) -> tuple[Tensor, Tensor]:
        """An embedding per token.

        Args:
            tokens: (B, T) int64 token ids.
            normalize: L2-normalise along D.

        Returns:
            (B, T, D), where the token at the end of a text is :meth:`encode_text` and columns
            after the longest text are zero or what the tower makes of padding, and (B, T) bool,
            true up to and including the end of each text; see
            :func:`fineclip.models.text_tower.text_mask`.

        Raises:
            ValueError: For text towers whose token embeddings are not defined.
        """
        return self.encode_text_and_tokens(tokens, normalize)[1:]

    def encode_text_and_tokens(
        self, tokens: Tensor, normalize: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`encode_text` and :meth:`encode_text_tokens` from one pass.

        Args:
            tokens: (B, T) int64 token ids.
            normalize: L2-normalise along D.

        Returns:
            (B, D), (B, T, D) and (B, T) bool.

        Raises:
            ValueError: For text towers whose token embeddings are not defined.
        """
        self._require_text()
        text, of_token, mask = self.text_tower.encode_tokens(_at_least_one(tokens))
        rows = len(tokens)
        return (
            _finish(text[:rows], normalize),
            _finish(of_token[:rows], normalize, dim=2),
            mask[:rows],
        )

    def encode_regions(
        self, images: Tensor, boxes: Sequence[Tensor], normalize: bool = True
    ) -> Tensor:
        """Box embeddings: RoIAlign of the normalised dense map (CLIPSelf, sec. 3.2).

        Args:
            images: (B, 3, H, W) float.
            boxes: One (n_i, 4) tensor per image, xyxy normalised to [0, 1] of the input.
            normalize: L2-normalise the result; the map itself always is.

        Returns:
            (sum n_i, D), image by image.

        Raises:
            ValueError: If there is not one (n_i, 4) tensor per image.
        """
        _check_per_image(
            images, boxes, "boxes", lambda b: b.ndim == 2 and b.shape[1] == 4, "(n, 4)"
        )
        packed, region_image = pack_regions(list(boxes), images.device)
        return _finish(pool_boxes(self.encode_dense(images), packed, region_image), normalize)

    def encode_masks(
        self, images: Tensor, masks: Sequence[Tensor], normalize: bool = True
    ) -> Tensor:
        """Mask embeddings: mean of the normalised dense map under each mask.

        Args:
            images: (B, 3, H, W) float.
            masks: One (n_i, H', W') bool tensor per image, all at one resolution.
            normalize: L2-normalise the result.

        Returns:
            (sum n_i, D), image by image; zeros for an empty mask.

        Raises:
            ValueError: If there is not one (n_i, H', W') tensor per image.
        """
        _check_per_image(images, masks, "masks", lambda m: m.ndim == 3, "(n, H, W)")
        packed, region_image = pack_regions(list(masks), images.device)
        return _finish(pool_masks(self.encode_dense(images), packed, region_image), normalize)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised image (B, D) and text (B, D) embeddings and the log logit scale ()."""
        return self.encode_image(images), self.encode_text(tokens), self.logit_scale


@MODELS.register_module(name="DenseCLIP")
def create_dense_clip(name: str, pretrained: str | None = None, **kwargs: Any) -> DenseCLIP:
    """For configs: ``dict(type="DenseCLIP", name=...)`` calls :meth:`DenseCLIP.create`."""
    return DenseCLIP.create(name, pretrained, **kwargs)


def _finish(embedding: Tensor, normalize: bool, dim: int = 1) -> Tensor:
    return F.normalize(embedding.float(), dim=dim) if normalize else embedding


def _at_least_one(batch: Tensor) -> Tensor:
    """Stands one row of zeros in for an empty batch; the caller cuts it off again.

    Attention modules refuse empty batches, and the result must stay connected to the parameters:
    under DistributedDataParallel a rank without regions still owes everybody a (zero) gradient.
    """
    return batch if len(batch) else batch.new_zeros(1, *batch.shape[1:])


def _check_per_image(
    images: Tensor,
    regions: Sequence[Tensor],
    what: str,
    fits: Callable[[Tensor], bool],
    shape: str,
) -> None:
    if len(regions) != len(images) or not all(fits(r) for r in regions):
        raise ValueError(
            f"{what} must hold one {shape} tensor per image: got {len(images)} images and "
            f"shapes {[tuple(r.shape) for r in regions]}"
        )
