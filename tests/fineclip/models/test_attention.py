"""The kernel that blocks run with: chosen by length, type and device, in both towers."""

import pytest
import torch

from fineclip.models import DenseCLIP
from fineclip.models.attention import LONGEST_PLAIN, attention_kernel, prefers_plain

FUSED = "ScaledDotProductFlashAttentionForCpu"


def nodes(output):
    """Names of all operations of a graph."""
    seen, todo = set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions]
    return {node.name() for node in seen}


def is_fused(output):
    return any(FUSED in name for name in nodes(output))


@pytest.fixture(scope="module", params=["ViT-Ti-16", "EVA02-Ti-16"])
def clip(request):
    torch.manual_seed(0)
    return DenseCLIP.create(request.param)


def images_and_tokens(clip):
    torch.manual_seed(0)
    tokens = torch.zeros(2, clip.context_length, dtype=torch.int64)
    tokens[:, 0], tokens[:, 1:4], tokens[:, 4] = 49406, 7, 49407
    return torch.randn(2, 3, *clip.image_size), tokens


@pytest.mark.parametrize("tower", ["image", "text"])
def test_short_sequences_in_bf16_train_without_the_fused_kernel(clip, tower):
    images, tokens = images_and_tokens(clip)
    run = (
        (lambda: clip.encode_image(images))
        if tower == "image"
        else lambda: clip.encode_text(tokens)
    )
    assert is_fused(run())  # float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fused(run())


def test_long_sequences_are_fused(clip):
    patch = clip.patch_size[0]
    side = patch * (int(LONGEST_PLAIN**0.5) + 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_fused(clip.encode_image(torch.randn(1, 3, side, side)))


def test_same_embeddings_and_gradients(clip):
    images, _ = images_and_tokens(clip)
    weight = next(p for name, p in clip.named_parameters() if "visual" in name and p.ndim == 2)
    found = []
    for forced in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "fineclip.models.attention.prefers_plain", lambda _, forced=forced: forced
            )
            embedding = clip.encode_image(images)
            assert is_fused(embedding) != forced
            (gradient,) = torch.autograd.grad(embedding.square().sum(1).sub(2).sum(), weight)
            found.append((embedding.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_inference_keeps_no_attention_weights(clip):
    """The unfused fast path of torch's multi-head attention is off inside, and only there."""
    images, tokens = images_and_tokens(clip)
    clip.eval()
    called = []
    original = torch._native_multi_head_attention
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(
            torch,
            "_native_multi_head_attention",
            lambda *a, **k: called.append(1) or original(*a, **k),
        )
        clip.encode_image(images)
        clip.encode_text(tokens)
    assert not called
    assert torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError, match="inside"), attention_kernel(images):
        assert not torch.backends.mha.get_fastpath_enabled()
        raise RuntimeError("inside")
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_blocks_that_are_recomputed_choose_again(name):
    torch.manual_seed(0)
    clip = DenseCLIP.create(name)
    images, tokens = images_and_tokens(clip)
    gradients = []
    for recompute in (False, True):
        clip.clip.set_grad_checkpointing(recompute)
        clip.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (clip.encode_image(images) * clip.encode_text(tokens)).sum()
        loss.backward()
        found = [p.grad.flatten() for p in clip.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    plain, recomputed = gradients
    # The text tower's kernel differs, in bf16.
    assert (plain - recomputed).norm() < 0.02 * plain.norm()


def test_what_decides():
    short, long = torch.zeros(1, LONGEST_PLAIN, 4), torch.zeros(1, LONGEST_PLAIN + 1, 4)
    assert not prefers_plain(short)
    assert prefers_plain(short.bfloat16()) and prefers_plain(short.half())
    assert not prefers_plain(long.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prefers_plain(short)
        with torch.no_grad():
            assert not prefers_plain(short)
    assert not prefers_plain(torch.zeros(1, 4, 4, dtype=torch.bfloat16, device="meta"))
