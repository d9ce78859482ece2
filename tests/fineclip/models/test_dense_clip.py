import open_clip
import pytest
import torch
import torch.nn.functional as F

from fineclip.models import DenseCLIP
from fineclip.models.pooling import pool_boxes, pool_masks

TINY = ["ViT-Ti-16", "EVA02-Ti-16"]
TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}


def make_vit(**vision):
    return open_clip.CLIP(embed_dim=16, vision_cfg={**VISION, **vision}, text_cfg=TEXT)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool_type": "avg"},
        {"ls_init_value": 0.5},
        {"no_ln_pre": True},
        {"final_ln_after_pool": True, "pool_type": "avg"},
        {"pos_embed_type": "sin_cos_2d"},
    ],
    ids=str,
)
def test_global_embedding_equals_open_clips_own(options):
    clip = make_vit(**options).eval()
    images = torch.randn(2, 3, 32, 32)
    ours = DenseCLIP(clip).encode_image(images, normalize=False)
    torch.testing.assert_close(ours, clip.encode_image(images), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_shared_pass_equals_separate_passes(name):
    model = DenseCLIP.create(name).eval()
    images = torch.randn(2, 3, 32, 48)
    image, dense = model.encode_image_and_dense(images)
    torch.testing.assert_close(image, model.encode_image(images), atol=0, rtol=0)
    torch.testing.assert_close(dense, model.encode_dense(images), atol=0, rtol=0)
    assert dense.shape == (2, model.embed_dim, 2, 3)
    torch.testing.assert_close(dense.norm(dim=1), torch.ones(2, 2, 3))


@pytest.mark.parametrize("name", TINY)
def test_empty_batches_stay_connected(name):
    """A rank without regions still has to take part in the gradient exchange."""
    model = DenseCLIP.create(name)
    images = torch.randn(2, 3, 64, 64)
    none = model.encode_regions(images, [torch.zeros(0, 4)] * 2)
    crops = model.encode_image(images[:0])
    texts = model.encode_text(torch.zeros(0, 77, dtype=torch.int64))
    assert none.shape == crops.shape == texts.shape == (0, model.embed_dim)
    (none.sum() + crops.sum() + texts.sum()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == ["clip.logit_scale"]
    assert all((p.grad == 0).all() for n, p in model.named_parameters() if n not in missing)


@torch.no_grad()
@pytest.mark.parametrize("name", [*TINY, "Sigmoid-Ti-16"])
def test_gradient_checkpointing_changes_nothing(name):
    model = DenseCLIP.create(name)
    images = torch.randn(2, 3, 64, 64)

    def gradients():
        model.zero_grad()
        with torch.enable_grad():
            sum(e.sum() for e in model.encode_image_and_dense(images, normalize=False)).backward()
        return [p.grad.clone() for p in model.clip.visual.parameters()]

    plain = gradients()
    model.clip.visual.set_grad_checkpointing(True)
    assert model.trunk.grad_checkpointing
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_box_pooling_by_hand():
    dense = torch.arange(16.0).view(1, 1, 4, 4).repeat(2, 1, 1, 1)
    dense[1] += 100
    # Two cells exactly, then the whole map: RoIAlign samples cell centres.
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.25], [0.0, 0.0, 1.0, 1.0]])
    pooled = pool_boxes(dense, boxes, torch.tensor([0, 1]))
    torch.testing.assert_close(pooled[:, 0], torch.tensor([0.5, 107.5]))


def test_mask_pooling_equals_a_loop():
    dense = torch.randn(3, 5, 4, 6)
    region_image = torch.tensor([0, 0, 2])
    masks = torch.rand(3, 4, 6) > 0.5
    masks[1] = False
    expected = [
        dense[i][:, m].mean(dim=1) if m.any() else torch.zeros(5)
        for i, m in zip(region_image, masks, strict=True)
    ]
    torch.testing.assert_close(pool_masks(dense, masks, region_image), torch.stack(expected))
    fine = masks.repeat_interleave(3, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(pool_masks(dense, fine, region_image), torch.stack(expected))


def test_errors_say_what_to_do():
    model = DenseCLIP(make_vit())
    with pytest.raises(ValueError, match=r"input is 30 x 32 pixels.*multiples of the patch, 8 x 8"):
        model.encode_image(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="one \\(n, 4\\) tensor per image: got 2 images"):
        model.encode_regions(torch.zeros(2, 3, 32, 32), [torch.zeros(1, 4)])
    unknown = make_vit()
    unknown.visual = torch.nn.Flatten()
    with pytest.raises(ValueError, match="no trunk adapter for the visual tower Flatten; known: "):
        DenseCLIP(unknown)
    with pytest.raises(ValueError, match="attentional pooling"):
        DenseCLIP(make_vit(attentional_pool=True, attn_pooler_heads=2))
    with pytest.raises(ValueError, match="patch dropout"):
        DenseCLIP(make_vit(patch_dropout=0.5))


def test_create_explains_bad_names():
    with pytest.raises(ValueError, match="unknown model 'ViT-B-61'; did you mean ViT-B-16"):
        DenseCLIP.create("ViT-B-61")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        DenseCLIP.create("ViT-Ti-16", "missing.pt")
    with pytest.raises(ValueError, match="neither a file nor a pretrained tag"):
        DenseCLIP.create("ViT-Ti-16", "openay")


def test_settings_follow_the_model():
    model = DenseCLIP.create("ViT-Ti-8-scenes")
    assert (model.embed_dim, model.image_size, model.patch_size) == (128, (64, 64), (8, 8))
    assert model.tokenizer(["a dog"]).shape == (1, model.context_length) == (1, 32)
    assert model.image_mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_a_crop_below_the_models_size(name):
    """As by open_clip's own model of that size, with its position table resampled by hand."""
    model = DenseCLIP.create(name).eval()
    state = model.clip.state_dict()
    tables = ("visual.positional_embedding", "visual.trunk.pos_embed")
    (key,) = (table for table in tables if table in state)
    state[key].normal_()
    prefix, patches = state[key].view(-1, state[key].shape[-1]).split([1, 16])
    patches = patches.T.reshape(1, -1, 4, 4)
    patches = F.interpolate(patches, size=(2, 2), mode="bicubic", align_corners=False)
    table = torch.cat([prefix, patches.flatten(2)[0].T])
    smaller = open_clip.create_model(name, force_image_size=32).eval()
    smaller.load_state_dict({**state, key: table.view_as(smaller.state_dict()[key])})
    crops = torch.randn(3, 3, 32, 32)
    expected = smaller.encode_image(crops)
    torch.testing.assert_close(model.encode_image(crops, normalize=False), expected)
