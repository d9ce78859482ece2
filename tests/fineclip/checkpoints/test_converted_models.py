"""Published weights, converted, give the recorded outputs."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from recorded import assert_recorded, behind, f_vit_tower, read_json, tensors

from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.models import DenseCLIP
from fineclip.models.trunks.timm_eva import TimmEvaTrunk


def test_cat_seg_clip():
    recorded = tensors("catseg_b16")
    settings = read_json("catseg_b16")["clip"]
    published = behind(recorded, "param.")
    key = "sem_seg_head.predictor.clip_model.token_embedding.weight"
    published[key] = torch.zeros(settings["vocab_size"], settings["text_width"])
    published[key][recorded[f"sparse.{key}.ids"]] = recorded[f"sparse.{key}.rows"]
    clip = open_clip.CLIP(
        settings["embed_dim"],
        {
            "image_size": settings["image_resolution"],
            "patch_size": settings["vision_patch_size"],
            "width": settings["vision_width"],
            "layers": settings["vision_layers"],
            "head_width": settings["vision_width"] // settings["vision_heads"],
        },
        {
            "width": settings["text_width"],
            "heads": settings["text_heads"],
            "layers": settings["text_layers"],
        },
        quick_gelu=True,
    ).eval()
    clip.load_state_dict(convert_source(source_from(published, "cat-seg"), to="open_clip").tensors)
    model = DenseCLIP(clip)
    with torch.no_grad():
        texts = model.encode_text(recorded["input.test_tokens"])
        torch.testing.assert_close(texts, recorded["mid.clean.text_embeddings"], atol=1e-4, rtol=0)
        # CAT-Seg's input side: padded to multiples of 32 (here none), squashed to 384.
        mean = torch.tensor([122.7709383, 116.7460125, 104.09373615]).view(3, 1, 1)
        std = torch.tensor([68.5005327, 66.6321579, 70.3231630]).view(3, 1, 1)
        image = (recorded["input.clean.image"] - mean) / std
        image = F.interpolate(image[None], size=(384, 384), mode="bilinear")
        # Its last block adds the class token's residual to every token instead of their own.
        trunk = model.trunk
        state = trunk.forward_shared(image)
        block = trunk.blocks[-1]
        tokens = state.tokens
        width = block.attn.embed_dim
        value = F.linear(
            block.ln_1(tokens),
            block.attn.in_proj_weight[2 * width :],
            block.attn.in_proj_bias[2 * width :],
        )
        mixed = tokens[:, :1] + block.attn.out_proj(value)
        mixed = mixed + block.mlp(block.ln_2(mixed))
        dense = clip.visual.ln_post(mixed) @ clip.visual.proj
    torch.testing.assert_close(dense, recorded["mid.clean.clip_dense"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["native", "rect"])
def test_f_vit_backbone(case):
    recorded = tensors("fvit_backbone")
    settings = read_json("fvit_backbone")
    stored = behind(recorded, "param.") | behind(recorded, "buffer.")
    published = {f"backbone.{key}": value for key, value in stored.items()}
    visual = {k: v for k, v in published.items() if ".visual." in k}
    converted = convert_source(source_from(visual, "f-vit"), to="fvit").tensors
    trunk = f_vit_tower().eval()
    trunk.load_state_dict(behind(converted, "backbone.visual.trunk."))
    visual = open_clip.timm_model.TimmModel.__new__(open_clip.timm_model.TimmModel)
    torch.nn.Module.__init__(visual)
    visual.trunk, visual.head = trunk, torch.nn.Identity()
    adapter = TimmEvaTrunk(visual)
    outputs = behind(recorded, f"{case}.")
    with torch.no_grad():
        state = adapter.embed(outputs["input.image"])
        tokens, taps = state.tokens, []
        for index, block in enumerate(adapter.blocks):
            last = index == len(adapter.blocks) - 1
            run = adapter.run_block_without_attention if last else adapter.run_block
            tokens = run(block, tokens) if last else run(block, tokens, state.rope)
            if index in settings["out_indices"]:
                taps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, state.grid))
            name = f"mid.tokens_after_block{index}"
            if name in outputs:
                assert_recorded(tokens, outputs[name], 1e-4)
        dense = F.normalize(
            adapter.dense_head(adapter.forward_shared(outputs["input.image"])), dim=1
        )
        assert_recorded(dense, outputs["output.eval.dense"], 1e-4)
        # The pyramid around the tower keeps its names and values.
        up = {key.removeprefix("backbone."): value for key, value in published.items()}
        first = F.conv_transpose2d(
            taps[0], up["interpolate1.0.weight"], up["interpolate1.0.bias"], stride=2
        )
        first = F.batch_norm(
            first,
            up["interpolate1.1.running_mean"],
            up["interpolate1.1.running_var"],
            up["interpolate1.1.weight"],
            up["interpolate1.1.bias"],
        )
        levels = [
            F.conv_transpose2d(
                F.gelu(first), up["interpolate1.3.weight"], up["interpolate1.3.bias"], stride=2
            ),
            F.conv_transpose2d(
                taps[1], up["interpolate2.0.weight"], up["interpolate2.0.bias"], stride=2
            ),
            taps[2],
            F.max_pool2d(taps[3], 2, 2),
        ]
    for number, level in enumerate(levels):
        assert_recorded(level, outputs[f"output.eval.level{number}"], 1e-4)
