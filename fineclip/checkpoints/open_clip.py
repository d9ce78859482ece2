"""open_clip's naming: layouts of the architectures, and what can be read off their tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from fineclip.checkpoints.layout import Layout, batch_norm, conv, count, linear, norm, prefixed
from fineclip.checkpoints.safe import CheckpointError
from fineclip.files import read_json

VIT = "open_clip ViT"
EVA = "timm EVA02"
SIGLIP = "timm SigLIP ViT"
RESNET = "open_clip ModifiedResNet"

# Several keys each, so that one that is missing is missed by its name.
_MARKS = {
    VIT: ("visual.class_embedding", "visual.transformer."),
    SIGLIP: ("visual.trunk.attn_pool.",),
    EVA: ("visual.trunk.cls_token", "visual.trunk.blocks.0.attn.q_proj."),
    RESNET: ("visual.attnpool.", "visual.layer1."),
}


def tower_of(keys: Mapping[str, Tensor], source: str) -> str:
    """Which kind of image tower a state dict in open_clip naming holds.

    Raises:
        CheckpointError: None that is known.
    """
    for tower, marks in _MARKS.items():
        if any(key.startswith(marks) for key in keys):
            return tower
    visual = [key for key in keys if key.startswith("visual.")] or list(keys)
    raise CheckpointError(
        f"{source} holds no image tower that can be converted; known are "
        f"{', '.join(_MARKS)}; found keys such as {', '.join(visual[:4])}"
    )


def image_tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that is the image tower."""
    return {key: value for key, value in tensors.items() if key.startswith("visual.")}


def text_prefix(keys: Mapping[str, Tensor]) -> str | None:
    """``"text."`` (CustomTextCLIP), ``""`` (CLIP), or None without a text tower."""
    marks = ("token_embedding.weight", "transformer.")
    for prefix in ("text.", ""):
        if any(key.startswith(tuple(f"{prefix}{mark}" for mark in marks)) for key in keys):
            return prefix
    return None


def layout_of(tensors: Mapping[str, Tensor], source: str, *, with_text: bool = True) -> Layout:
    """The layout that a state dict in open_clip naming should have.

    Args:
        tensors: The state dict.
        source: Where it is from, for messages.
        with_text: Demand the text tower and the logit scale; a scale alone may be there.

    Raises:
        CheckpointError: The image tower is of no known kind.
    """
    towers = {VIT: _vit, EVA: _eva, SIGLIP: _siglip, RESNET: _resnet}
    layout = prefixed("visual.", towers[tower_of(tensors, source)](tensors))
    if with_text:
        prefix = text_prefix(tensors)
        if prefix is None:  # demand it under the name this kind of tower comes with
            prefix = "" if tower_of(tensors, source) in (VIT, RESNET) else "text."
        layout |= prefixed(prefix, _text(tensors, prefix))
    return layout | {"logit_scale" if with_text else "logit_scale?": (), "logit_bias?": ()}


def _transformer(prefix: str, width: str, hidden: str) -> Layout:
    block = f"{prefix}resblocks.{{i}}."
    return {
        **norm(f"{block}ln_1", width),
        f"{block}attn.in_proj_weight": (f"3*{width}", width),
        f"{block}attn.in_proj_bias": (f"3*{width}",),
        **linear(f"{block}attn.out_proj", width, width),
        **norm(f"{block}ln_2", width),
        **linear(f"{block}mlp.c_fc", hidden, width),
        **linear(f"{block}mlp.c_proj", width, hidden),
    }


def _text(tensors: Mapping[str, Tensor], prefix: str) -> Layout:
    projection: Layout = {"text_projection": ("W", "D")}
    if f"{prefix}text_projection.weight" in tensors:
        projection = linear("text_projection", "D", "W")
    return {
        "token_embedding.weight": ("V", "W"),
        "positional_embedding": ("T", "W"),
        **_transformer("transformer.", "W", "Wh"),
        **norm("ln_final", "W"),
        **projection,
    }


def _vit(_: Mapping[str, Tensor]) -> Layout:
    return {
        "class_embedding": ("C",),
        "positional_embedding": ("N", "C"),
        **conv("conv1", "C", 3, "p", bias=False),
        **norm("ln_pre", "C"),
        **_transformer("transformer.", "C", "Ch"),
        **norm("ln_post", "C"),
        "proj": ("C", "D"),
    }


def _eva(_: Mapping[str, Tensor]) -> Layout:
    block = "blocks.{i}."
    tower: Layout = {
        "cls_token": (1, 1, "C"),
        "pos_embed": (1, "N", "C"),
        **conv("patch_embed.proj", "C", 3, "p"),
        **norm(f"{block}norm1", "C"),
        **linear(f"{block}attn.q_proj", "C", "C"),
        **linear(f"{block}attn.k_proj", "C", "C", bias=False),
        **linear(f"{block}attn.v_proj", "C", "C"),
        **norm(f"{block}attn.norm", "C"),
        **linear(f"{block}attn.proj", "C", "C"),
        **norm(f"{block}norm2", "C"),
        **linear(f"{block}mlp.fc1_g", "Ch", "C"),
        **linear(f"{block}mlp.fc1_x", "Ch", "C"),
        **norm(f"{block}mlp.norm", "Ch"),
        **linear(f"{block}mlp.fc2", "C", "Ch"),
        **norm("norm", "C"),
        **linear("head", "D", "C"),
    }
    return prefixed("trunk.", tower)


def _siglip(_: Mapping[str, Tensor]) -> Layout:
    block = "blocks.{i}."
    tower: Layout = {
        "pos_embed": (1, "N", "C"),
        **conv("patch_embed.proj", "C", 3, "p"),
        **norm(f"{block}norm1", "C"),
        **linear(f"{block}attn.qkv", "3*C", "C"),
        **linear(f"{block}attn.proj", "C", "C"),
        **norm(f"{block}norm2", "C"),
        **linear(f"{block}mlp.fc1", "Ch", "C"),
        **linear(f"{block}mlp.fc2", "C", "Ch"),
        **norm("norm", "C"),
        "attn_pool.latent": (1, 1, "C"),
        **linear("attn_pool.q", "C", "C"),
        **linear("attn_pool.kv", "2*C", "C"),
        **linear("attn_pool.proj", "C", "C"),
        **norm("attn_pool.norm", "C"),
        **linear("attn_pool.mlp.fc1", "Cp", "C"),
        **linear("attn_pool.mlp.fc2", "C", "Cp"),
    }
    return prefixed("trunk.", tower)


def _resnet(tensors: Mapping[str, Tensor]) -> Layout:
    layout: Layout = {}
    stem: tuple[tuple[str, int | str], ...] = (("s1", 3), ("s1", "s1"), ("s2", "s1"))
    for index, (out, inp) in enumerate(stem, start=1):
        layout |= conv(f"conv{index}", out, inp, 3, bias=False) | batch_norm(f"bn{index}", out)
    inp = "s2"
    for stage in range(1, 5):
        planes, out = f"P{stage}", f"4*P{stage}"
        for block in range(max(1, count(f"visual.layer{stage}.", tensors))):
            name = f"layer{stage}.{block}."
            for n, (o, i, kernel) in enumerate(
                ((planes, inp, 1), (planes, planes, 3), (out, planes, 1)), start=1
            ):
                layout |= conv(f"{name}conv{n}", o, i, kernel, bias=False)
                layout |= batch_norm(f"{name}bn{n}", o)
            if block == 0:
                layout |= conv(f"{name}downsample.0", out, inp, 1, bias=False)
                layout |= batch_norm(f"{name}downsample.1", out)
            inp = out
    layout["attnpool.positional_embedding"] = ("N", "4*P4")
    for part in ("q_proj", "k_proj", "v_proj"):
        layout |= linear(f"attnpool.{part}", "4*P4", "4*P4")
    return layout | linear("attnpool.c_proj", "D", "4*P4")


@dataclass(frozen=True)
class PositionTable:
    """The image tower's absolute position table.

    Attributes:
        key: Its name in open_clip naming.
        patch: Side of a patch in pixels.
        num_prefix: Rows before the patches' rows.
        grid: Side of the square patch grid.
    """

    key: str
    patch: int
    num_prefix: int
    grid: int

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.grid * self.patch


def position_table(tensors: Mapping[str, Tensor], source: str) -> PositionTable:
    """Finds the position table of a ViT, EVA02 or SigLIP tower.

    Raises:
        CheckpointError: The tower has no patch position table (ResNet), or it is not square.
    """
    tower = tower_of(tensors, source)
    if tower == RESNET:
        raise CheckpointError(f"{source} is a ResNet: it has no position table over patches")
    key = "visual.positional_embedding" if tower == VIT else "visual.trunk.pos_embed"
    stem = "visual.conv1.weight" if tower == VIT else "visual.trunk.patch_embed.proj.weight"
    num_prefix = 0 if tower == SIGLIP else 1
    positions = tensors[key].shape[-2] - num_prefix
    grid = math.isqrt(positions)
    if grid * grid != positions:
        raise CheckpointError(f"{source}: {key} has {positions} patch positions, no square grid")
    return PositionTable(key, tensors[stem].shape[-1], num_prefix, grid)


def head_width(width: int) -> int:
    """Width of an attention head where nothing says so.

    64 in OpenAI's, LAION's B and L, and EVA02's models; wider towers are known by their width,
    narrow ones (tests) get 32 or 16.
    """
    known = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
    if width in known:
        return known[width]
    return next((size for size in (64, 32, 16) if width % size == 0 and width > size), width)


def known_config(dims: Mapping[str, int], layers: int, text_layers: int) -> tuple[str, dict] | None:
    """The open_clip model config with the given sizes: (name, config), or None.

    Heads and activation leave no trace in tensors; published architectures are recognised by
    their sizes. Of several (names that differ in activation or image size) the shortest counts.

    Args:
        dims: Sizes by letter: C, p, D (image tower), W (text tower).
        layers: Blocks of the image tower.
        text_layers: Blocks of the text tower.
    """
    wanted = (dims["C"], dims["p"], layers, dims["D"], dims["W"], text_layers)
    folders = [Path(__file__).parents[1] / "tiny_models"]
    if spec := find_spec("open_clip"):  # found, not imported: importing takes many seconds
        folders += [Path(p) / "model_configs" for p in spec.submodule_search_locations or ()]
    for folder in folders:
        for path in sorted(folder.glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
            config = read_json(path, "model configuration")
            vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
            sizes = (
                vision.get("width"),
                vision.get("patch_size"),
                vision.get("layers"),
                config.get("embed_dim"),
                text.get("width"),
                text.get("layers"),
            )
            if sizes == wanted:
                return path.stem, config
    return None
