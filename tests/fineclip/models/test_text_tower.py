"""Texts without their padding: the same embeddings for less work."""

import open_clip
import pytest
import torch
from torch import nn

from fineclip.models import DenseCLIP
from fineclip.models.text_tower import TextTower

TEXT = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def custom(**text):
    return open_clip.CustomTextCLIP(8, VISION, {**TEXT, **text})


def tokens_of_lengths(*lengths, end=99):
    tokens = torch.zeros(len(lengths), 16, dtype=torch.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[: length - 1] = torch.randint(1, 99, (length - 1,))
        row[length - 1] = end
    return tokens


def columns_seen(clip, tokens):
    """The longest sequence that passes through the tower."""
    seen = []
    tower = getattr(clip, "text", clip)
    handle = tower.ln_final.register_forward_hook(lambda m, i, output: seen.append(output.shape[1]))
    embedding = TextTower(clip).encode(tokens)
    handle.remove()
    return embedding, seen


@torch.no_grad()
@pytest.mark.parametrize(
    "clip",
    [
        lambda: open_clip.CLIP(8, VISION, TEXT),
        custom,
        lambda: custom(proj_type="linear", proj_bias=True),
        lambda: custom(pool_type="eos", eos_id=99),
    ],
    ids=["CLIP", "CustomTextCLIP", "projection with bias", "eos"],
)
def test_causal_tower_stops_at_the_longest_text(clip):
    clip = clip().eval()
    tokens = tokens_of_lengths(3, 7, 2)
    embedding, seen = columns_seen(clip, tokens)
    assert seen == [7]
    torch.testing.assert_close(embedding, clip.encode_text(tokens), atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "clip",
    [lambda: custom(no_causal_mask=True), lambda: custom(pool_type="last")],
    ids=["bidirectional", "pools at the last place"],
)
def test_towers_that_see_the_padding_keep_it(clip):
    clip = clip().eval()
    tokens = tokens_of_lengths(3, 7, 2)
    embedding, seen = columns_seen(clip, tokens)
    assert seen == [16]
    torch.testing.assert_close(embedding, clip.encode_text(tokens), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_mask_that_lets_one_later_token_through_is_no_causal_one():
    clip = custom().eval()
    clip.text.attn_mask[2, 9] = 0
    assert not TextTower(clip).trims


class ForeignTower(nn.Module):
    """A text tower of another library: nothing is known but that it embeds."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 8)

    def forward(self, tokens):
        return self.embedding(tokens).mean(dim=1)


def test_foreign_tower_is_run_as_it_is():
    clip = custom()
    clip.text = ForeignTower()
    tokens = tokens_of_lengths(3, 7)
    tower = TextTower(clip)
    assert torch.equal(tower.encode(tokens), clip.encode_text(tokens))
    assert tower.lengths(tokens).tolist() == [16, 16]


def test_gradients_are_those_of_the_padded_pass():
    clip = open_clip.CLIP(8, VISION, TEXT).double()
    model = DenseCLIP(clip)
    tokens = tokens_of_lengths(3, 7, 2)
    weights = torch.randn(3, 8).double()
    gradients = []
    for encode in (lambda t: model.encode_text(t, normalize=False), clip.encode_text):
        clip.zero_grad()
        (encode(tokens) * weights).sum().backward()
        gradients.append({n: p.grad for n, p in clip.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-12, rtol=1e-12)
