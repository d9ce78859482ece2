"""The second model that guides a dense map."""

import pytest
import timm
import torch

from fineclip.models.guide import Guide

NAME, MEAN, STD = "test_vit", (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=0, dynamic_img_size=True).eval()


@torch.no_grad()
@pytest.mark.parametrize("wrapped", [False, True])
def test_features_are_the_model_s_own_at_its_own_normalisation(vit, tmp_path, wrapped):
    content = vit.state_dict()
    if wrapped:  # as DINO's trainings are saved
        content = {"teacher": {f"module.backbone.{key}": value for key, value in content.items()}}
    torch.save(content, tmp_path / "vit.pth")
    guide = Guide(NAME, tmp_path / "vit.pth", MEAN, STD)
    pixels = torch.rand(2, 3, 32, 48)
    mean, std, its_mean, its_std = (
        torch.tensor(value).view(3, 1, 1)
        for value in (MEAN, STD, vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"])
    )
    tokens = vit.forward_features((pixels - its_mean) / its_std)[:, vit.num_prefix_tokens :]
    found = guide((pixels - mean) / std)
    assert found.shape == (2, tokens.shape[2], 2, 3)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens, atol=1e-4, rtol=1e-4)
    # Patches of a CLIP that are no multiple of the guide's are enlarged to the next one.
    assert guide(torch.rand(1, 3, 28, 42)).shape[-2:] == (2, 3)


def test_what_is_no_guide(vit, tmp_path):
    file = tmp_path / "vit.pth"
    for name in ("no_such_vit", "resnet18"):
        with pytest.raises(ValueError, match=f"--guide {name}: timm makes no such ViT"):
            Guide(name, file, MEAN, STD)
    with pytest.raises(FileNotFoundError, match=r"vit\.pth does not exist"):
        Guide(NAME, file, MEAN, STD)
    content = vit.state_dict()
    position = content.pop("pos_embed")
    torch.save(content, file)
    with pytest.raises(ValueError, match=r"--guide-weights .*vit\.pth lacks 1 tensors, as pos_em"):
        Guide(NAME, file, MEAN, STD)
    torch.save({**content, "pos_embed": position[:, 1:]}, file)
    with pytest.raises(
        ValueError, match=r"--guide-weights .*vit\.pth: size mismatch for pos_embed"
    ):
        Guide(NAME, file, MEAN, STD)
