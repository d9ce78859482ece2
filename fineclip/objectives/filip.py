"""Contrast by token-wise maximum similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import match_rows
from fineclip.objectives.text_tokens import check_text_mask
from fineclip.registry import OBJECTIVES


def late_interaction(
    patches: Tensor, text_tokens: Tensor, text_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Token-wise similarities of every image and every caption, in both directions.

    Args:
        patches: (B, N, D) unit patch embeddings.
        text_tokens: (M, T, D) unit token embeddings.
        text_mask: (M, T) bool, true where a token is not padding; at least one per caption.

    Returns:
        (B, M) mean over patches of the maximum over tokens, and (B, M) mean over tokens of the
        maximum over patches.
    """
    num_tokens = text_mask.sum(dim=1)  # (M,)
    image_to_text, text_to_image = [], []
    # Image by image: all pairs at once would be B x M x N x T numbers.
    for image in patches:
        similarity = torch.einsum("nd,mtd->mnt", image, text_tokens)
        # max, unlike amax, keeps just the indices for its backward pass.
        of_patch = similarity.masked_fill(~text_mask[:, None], -torch.inf).max(dim=2).values
        of_token = similarity.max(dim=1).values.masked_fill(~text_mask, 0)
        image_to_text.append(of_patch.mean(dim=1))
        text_to_image.append(of_token.sum(dim=1) / num_tokens)
    return torch.stack(image_to_text), torch.stack(text_to_image)


@OBJECTIVES.register_module()
class FILIP(Objective):
    """Contrast of images and captions by their tokens: ``loss_filip``.

    FILIP (Yao et al., ICLR 2022, "FILIP: Fine-grained Interactive Language-Image Pre-Training"),
    its cross-modal late interaction, with x_ik patch k of image i, y_jr token r of caption j, all
    of unit length, N patches and n_j tokens that are not padding, start and end of text included::

        sI_ij = 1/N   sum_k max_r x_ik . y_jr
        sT_ij = 1/n_j sum_r max_k x_ik . y_jr
        L = 1/2 [ mean_i CE(exp(logit_scale) sI_i:, i) + mean_j CE(exp(logit_scale) sT_:j, j) ]

    Padding takes part neither in the maximum nor in the mean, as in the paper. The paper drops the
    3 of 4 tokens of least similarity before processes exchange them; here all are kept.

    Public code does otherwise. Huawei's (MindFormers, ``FilipLossCell``) lets padding into the
    maximum as zero vectors, learns a scale for each direction, clips logits to 100 and smooths
    labels by 0.1. Sense-GVT/DeCLIP lets padding into maximum and mean, has a scale of its own, and
    compares with 16 tokens of the other side alone, those most similar to their own pair.
    lucidrains/x-clip computes what is here.
    """

    needs = frozenset({"patches", "text_tokens", "text_mask", "logit_scale"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zero without images.

        Raises:
            ValueError: If the mask does not fit the tokens or a caption has no token.
        """
        mask = embeddings.text_mask
        check_text_mask(embeddings.text_tokens, mask)
        patches = F.normalize(embeddings.patches.float(), dim=2)
        tokens = F.normalize(embeddings.text_tokens.float(), dim=2)
        factor = embeddings.logit_scale.float().exp()
        if not len(patches):
            return {"loss_filip": patches.sum() + tokens.sum() + 0 * factor}
        image_to_text, text_to_image = late_interaction(patches, tokens, mask)
        loss = (match_rows(factor * image_to_text) + match_rows(factor * text_to_image.T)) / 2
        return {"loss_filip": loss}
