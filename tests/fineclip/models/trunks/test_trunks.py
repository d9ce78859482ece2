"""Towers that end in an attention pool: SigLIP (timm's ViT) and OpenAI's ResNets.

What all trunks have in common is in ``test_dense_clip.py``.
"""

import copy
import math

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

from fineclip.models import DenseCLIP, dense_clip
from fineclip.models.trunks import ModifiedResNetTrunk, TimmViTTrunk, build_trunk
from fineclip.objectives import GlobalContrastive, RegionContrastive, SelfDistillation
from fineclip.pretraining import FineCLIPPretrainer

TINY = {"Sigmoid-Ti-16": 16, "RN-Ti": 32}
NAMES = list(TINY)


@torch.no_grad()
def make(name, **kwargs):
    """A model in which nothing is left at zero or one, so that every part shows."""
    model = DenseCLIP.create(name, **kwargs).eval()
    for module in model.clip.visual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(std=0.1)
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.1)
    if name == "Sigmoid-Ti-16":
        model.clip.visual.trunk.pos_embed.normal_()
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_global_embedding_equals_open_clips_own(name):
    model = make(name)
    images = torch.randn(2, 3, *model.image_size)
    ours = model.encode_image(images, normalize=False)
    torch.testing.assert_close(ours, model.clip.encode_image(images), atol=1e-5, rtol=0)


def resample_by_hand(patches, old, new):
    """(old * old, C) position table -> (new[0] * new[1], C)."""
    grid = patches.view(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False, antialias=False)
    return grid.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (6, 4)], ids=str)
def test_siglip_at_other_sizes_resamples_the_position_table(grid):
    model = make("Sigmoid-Ti-16")
    images = torch.randn(2, 3, 16 * grid[0], 16 * grid[1])
    reference = copy.deepcopy(model.clip)
    trunk = reference.visual.trunk
    table = resample_by_hand(trunk.pos_embed[0], 4, grid)
    trunk.set_input_size((16 * grid[0], 16 * grid[1]))
    trunk.pos_embed.copy_(table)
    ours = model.encode_image(images, normalize=False)
    torch.testing.assert_close(ours, reference.encode_image(images), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(3, 3), (2, 4), (3, 1)], ids=str)
def test_resnet_at_other_sizes_resamples_the_position_table(grid):
    model = make("RN-Ti")
    images = torch.randn(2, 3, 32 * grid[0], 32 * grid[1])
    reference = copy.deepcopy(model.clip)
    pool = reference.visual.attnpool
    table = pool.positional_embedding
    patches = resample_by_hand(table[1:], 2, grid)
    pool.positional_embedding = torch.nn.Parameter(torch.cat([table[:1], patches]))
    ours = model.encode_image(images, normalize=False)
    torch.testing.assert_close(ours, reference.encode_image(images), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_shared_pass_equals_separate_passes(name):
    model = make(name)
    patch = TINY[name]
    assert model.patch_size == (patch, patch)
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    image, dense = model.encode_image_and_dense(images)
    torch.testing.assert_close(image, model.encode_image(images), atol=0, rtol=0)
    torch.testing.assert_close(dense, model.encode_dense(images), atol=0, rtol=0)
    assert dense.shape == (2, model.embed_dim, 2, 3)
    torch.testing.assert_close(dense.norm(dim=1), torch.ones(2, 2, 3))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_full_image_box_is_the_mean_of_the_map(name):
    model = make(name)
    images = torch.randn(2, 3, 64, 96)
    whole = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])] * 2
    expected = F.normalize(model.encode_dense(images).mean(dim=(2, 3)), dim=1)
    torch.testing.assert_close(model.encode_regions(images, whole), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    model = make(name).train()
    image, dense = model.encode_image_and_dense(torch.randn(2, 3, 64, 64))
    (image[:, 0].sum() + dense[:, 0].sum()).backward()
    for parameter_name, parameter in model.clip.visual.named_parameters():
        assert parameter.grad is not None, parameter_name
        # The bias of the keys moves all attention logits of a query alike: no effect.
        assert parameter.grad.any() or parameter_name == "attnpool.k_proj.bias", parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_empty_batches_stay_connected(name):
    model = make(name)
    images = torch.randn(2, 3, 64, 64)
    none = model.encode_regions(images, [torch.zeros(0, 4)] * 2)
    crops = model.encode_image(images[:0])
    assert none.shape == crops.shape == (0, model.embed_dim)
    (none.sum() + crops.sum()).backward()
    assert all(not p.grad.any() for p in model.clip.visual.parameters())


def siglip_trunk(**options):
    visual = DenseCLIP.create("Sigmoid-Ti-16").clip.visual.eval()
    shape = {"img_size": 32, "embed_dim": 96, "depth": 2, "num_heads": 3, "num_classes": 0}
    pooling = {"class_token": False, "global_pool": "map"}
    visual.trunk = VisionTransformer(**{**shape, **pooling, **options}).eval()
    return build_trunk(visual)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_norm": True, "scale_attn_norm": True, "init_values": 0.5},
        {"pre_norm": True, "qkv_bias": False},
        {"fc_norm": True, "num_classes": 8, "pos_embed": "none"},
    ],
    ids=str,
)
def test_siglip_dense_feature_is_the_pool_attending_one_token(options):
    trunk = siglip_trunk(**options)
    for parameter in trunk.trunk.attn_pool.parameters():
        parameter.normal_(std=0.2)
    tokens = torch.randn(2, 6, 96)
    dense = trunk.project_patches(tokens)
    for i in range(6):
        alone = trunk.pool_and_project(tokens[:, i : i + 1])
        constant_map = trunk.pool_and_project(tokens[:, i : i + 1].expand(-1, 4, -1))
        torch.testing.assert_close(dense[:, i], alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dense[:, i], constant_map, atol=1e-4, rtol=1e-4)
    # One patch has nothing else to attend, in the last block either.
    state = trunk.forward_shared(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(
        trunk.dense_head(state)[..., 0, 0], trunk.global_head(state), atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_resnet_dense_feature_is_the_pool_of_a_constant_map():
    model = make("RN-Ti")
    model.clip.visual.attnpool.positional_embedding.zero_()
    features = torch.randn(2, 512, 2, 3)
    dense = model.trunk.dense_head(features)
    for y in range(2):
        for x in range(3):
            constant_map = features[:, :, y : y + 1, x : x + 1].expand(-1, -1, 2, 2)
            expected = model.clip.visual.attnpool(constant_map)
            torch.testing.assert_close(dense[:, :, y, x], expected, atol=1e-5, rtol=1e-5)


def batch_norm_state(model):
    return {
        name: tensor.clone()
        for name, tensor in model.clip.visual.state_dict().items()
        if "running" in name or "num_batches" in name
    }


@torch.no_grad()
def test_frozen_batch_norm_embeds_each_image_on_its_own():
    """Otherwise chunks, ranks and the crops beside the images would change the loss."""
    model = make("RN-Ti").train()
    assert model.clip.visual.training
    images = torch.randn(3, 3, 64, 64)
    before = batch_norm_state(model)
    together = model.encode_image(images)
    alone = torch.cat([model.encode_image(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, model.eval().encode_image(images), atol=1e-6, rtol=0)
    after = batch_norm_state(model)
    assert before and all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
def test_batch_norm_can_follow_the_batch():
    model = make("RN-Ti", freeze_batch_norm=False).train()
    images = torch.randn(3, 3, 64, 64)
    before = batch_norm_state(model)
    training = model.encode_image(images)
    after = batch_norm_state(model)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not torch.allclose(training, model.eval().encode_image(images), atol=1e-3)


def test_tiny_settings_follow_their_models():
    siglip = DenseCLIP.create("Sigmoid-Ti-16")
    assert (siglip.embed_dim, siglip.image_size) == (96, (64, 64))
    assert siglip.logit_bias.item() == -10
    assert siglip.logit_scale.exp().item() == pytest.approx(10)
    assert siglip.tokenizer(["a dog"]).shape == (1, siglip.context_length) == (1, 64)
    resnet = DenseCLIP.create("RN-Ti")
    assert (resnet.embed_dim, resnet.image_size) == (64, (64, 64))
    assert resnet.logit_bias is None
    assert resnet.logit_scale.exp().item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("name", "trunk", "width", "patch", "mean"),
    [
        ("ViT-B-16-SigLIP", TimmViTTrunk, 768, 16, 0.5),
        ("ViT-B-16-SigLIP2", TimmViTTrunk, 768, 16, 0.5),
        ("RN50", ModifiedResNetTrunk, 1024, 32, open_clip.OPENAI_DATASET_MEAN[0]),
    ],
)
def test_full_size_models_are_supported(name, trunk, width, patch, mean):
    """On the meta device: shapes without memory. SigLIP's tokenizer must not be fetched."""
    with torch.device("meta"):
        model = DenseCLIP.create(name, device="meta")
        image, dense = model.encode_image_and_dense(torch.zeros(1, 3, 2 * patch, 3 * patch))
    assert type(model.trunk) is trunk
    assert (image.shape, dense.shape) == ((1, width), (1, width, 2, 3))
    assert model.embed_dim == width
    assert model.image_mean[0] == mean


def test_pixel_statistics_can_be_overridden():
    own = {"mean": (0.1, 0.2, 0.3)}
    with torch.device("meta"):
        model = DenseCLIP.create("ViT-B-16-SigLIP", device="meta", force_preprocess_cfg=own)
    assert model.image_mean == (0.1, 0.2, 0.3)
    assert model.image_std == (0.5, 0.5, 0.5)


def test_tokenizer_is_made_when_first_asked_for(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(dense_clip, "get_tokenizer", offline)
    model = DenseCLIP.create("Sigmoid-Ti-16")
    with pytest.raises(OSError, match="no connection"):
        model.tokenizer(["a dog"])


def test_towers_without_defined_dense_features_are_refused():
    with pytest.raises(ValueError, match="only SigLIP style"):
        siglip_trunk(class_token=True)
    with pytest.raises(ValueError, match="only SigLIP style"):
        siglip_trunk(global_pool="avg")
    with pytest.raises(ValueError, match="patch dropout"):
        siglip_trunk(patch_drop_rate=0.5)
    visual = DenseCLIP.create("Sigmoid-Ti-16").clip.visual
    with torch.device("meta"):
        visual.trunk = timm.create_model("naflexvit_base_patch16_siglip", num_classes=0)
    with pytest.raises(ValueError, match=r"NaFlex.*not supported.*ViT-B-16-SigLIP2"):
        build_trunk(visual)


def test_resnet_refuses_sizes_its_convolutions_would_round():
    model = DenseCLIP.create("RN-Ti")
    with pytest.raises(ValueError, match=r"input is 64 x 80 pixels.*multiples of the patch"):
        model.encode_dense(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize("name", NAMES)
def test_pretrainer_takes_a_step(name):
    clip = make(name)
    objectives = [GlobalContrastive(), RegionContrastive(), SelfDistillation()]
    model = FineCLIPPretrainer(clip, objectives, trainable=("image", "text", "logit_scale"))
    model.train()
    batch = {
        "images": torch.randn(2, 3, 64, 64),
        "texts": torch.randint(1, 900, (2, clip.context_length)),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6]]).repeat(3, 1),
        "region_image": torch.tensor([0, 1, 1]),
        "crops": torch.randn(3, 3, 64, 64),
        "region_texts": torch.randint(1, 900, (3, clip.context_length)),
    }
    optimizer = torch.optim.SGD(clip.parameters(), lr=1e-5)
    losses = []
    for _ in range(2):
        loss, _ = model.parse_losses(model(**batch, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[0])
    assert losses[1] < losses[0]
