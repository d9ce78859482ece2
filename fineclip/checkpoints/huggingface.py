"""Hugging Face's ``CLIPModel``: names, configuration files, folders."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

from fineclip.checkpoints.layout import count
from fineclip.checkpoints.open_clip import head_width, known_config, position_table
from fineclip.checkpoints.rules import Rule
from fineclip.checkpoints.safe import CheckpointError, read_checkpoint
from fineclip.checkpoints.state_dict import state_dict_of
from fineclip.files import read_json, require_keys

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_LEGACY_WEIGHTS = "pytorch_model.bin"

POSITION_IDS = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)
POSITION_IDS_REASON = "a range that older transformers versions saved"

# OpenAI's statistics, in every published CLIP that CLIPModel holds.
_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]
_BICUBIC = 3

_CLIP_VOCABULARY = 49408

# Configurations that are read: a CLIP or a SigLIP, or the image tower alone. Of "siglip2" the
# weights tell that they are NaFlex.
_MODEL_TYPES = ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "siglip2")
_TOWERS = ("text_config", "vision_config")
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("projection_dim", "image_size", "patch_size", "num_channels"),
    *("vocab_size", "max_position_embeddings"),
)
_LARGEST_SIZE = 10**7
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")


def _tower(ours: str, theirs: str) -> list[Rule]:
    block, layer = f"{ours}transformer.resblocks.{{i}}.", f"{theirs}encoder.layers.{{i}}."
    rules = [
        Rule(
            f"{block}attn.in_proj_{kind}",
            tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv"),
        )
        for kind in ("weight", "bias")
    ]
    renamed = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    return rules + [Rule(f"{block}{a}.{{*}}", (f"{layer}{b}.{{*}}",)) for a, b in renamed.items()]


def _rules() -> list[Rule]:
    vision, text = "vision_model.", "text_model."
    renamed = {
        "logit_scale": "logit_scale",
        "visual.class_embedding": f"{vision}embeddings.class_embedding",
        "visual.positional_embedding": f"{vision}embeddings.position_embedding.weight",
        "visual.conv1.weight": f"{vision}embeddings.patch_embedding.weight",
        "visual.ln_pre.{*}": f"{vision}pre_layrnorm.{{*}}",
        "visual.ln_post.{*}": f"{vision}post_layernorm.{{*}}",
        "token_embedding.weight": f"{text}embeddings.token_embedding.weight",
        "positional_embedding": f"{text}embeddings.position_embedding.weight",
        "ln_final.{*}": f"{text}final_layer_norm.{{*}}",
    }
    return [
        *(Rule(a, (b,)) for a, b in renamed.items()),
        Rule("visual.proj", ("visual_projection.weight",), transpose=True),
        Rule("text_projection", ("text_projection.weight",), transpose=True),
        *_tower("visual.", vision),
        *_tower("", text),
    ]


RULES = _rules()


def read_folder(folder: Path, *, mmap: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration of a saved ``CLIPModel``.

    Args:
        folder: As ``save_pretrained`` writes it, weights in one file or in shards.
        mmap: As in :func:`~fineclip.checkpoints.safe.read_checkpoint`.

    Raises:
        FileNotFoundError: A file that the index names does not exist.
        CheckpointError: It is no such folder, of another model type, or malformed.
    """
    try:
        config = read_json(folder / CONFIG, "configuration")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is a folder without a readable {CONFIG}: name a checkpoint file, or a "
            f"folder that transformers' CLIPModel.save_pretrained wrote ({error})"
        ) from None
    _check_config(config, folder / CONFIG)
    if (folder / _INDEX).exists():
        files = _indexed_files(folder / _INDEX)
    else:
        files = [name for name in (WEIGHTS, _LEGACY_WEIGHTS) if (folder / name).exists()][:1]
    if not files:
        raise CheckpointError(f"{folder} has no {WEIGHTS}, {_INDEX} or {_LEGACY_WEIGHTS}")
    tensors: dict[str, Tensor] = {}
    for name in files:
        # Names come from a file: only their last part is used.
        file = folder / Path(name).name
        tensors.update(state_dict_of(read_checkpoint(file, mmap=mmap), file))
    return tensors, config


def _check_config(config: Any, path: Path) -> None:
    """Checks what is read of a configuration, and the numbers that every CLIP has.

    Raises:
        CheckpointError: Another model type, a value of another type, or an absurd number.
    """
    if not isinstance(config, Mapping):
        raise _wrong(path, "", "a JSON object", config)
    if config.get("model_type") not in _MODEL_TYPES:
        raise CheckpointError(
            f"{path} is of model type {config.get('model_type')!r:.80}; only 'clip' (CLIPModel), "
            "'siglip' (SiglipModel) and their '..._vision_model' are supported"
        )
    parts: dict[str, Mapping[str, Any]] = {"": config}
    for name in _TOWERS:
        part = config.get(name)
        if part is not None and not isinstance(part, Mapping):
            raise _wrong(path, name, "a JSON object", part)
        parts[f"{name}."] = part or {}
    for prefix, part in parts.items():
        for key in _SIZES:
            value = part.get(key)
            number = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (number and 1 <= value <= _LARGEST_SIZE):
                raise _wrong(path, prefix + key, f"a whole number from 1 to {_LARGEST_SIZE}", value)
        if (activation := part.get("hidden_act")) not in (None, *_ACTIVATIONS):
            raise _wrong(path, f"{prefix}hidden_act", " or ".join(_ACTIVATIONS), activation)


def _indexed_files(path: Path) -> list[str]:
    try:
        index = read_json(path, "index of the weights")
        require_keys(index, ["weight_map"], str(path))
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    files = index["weight_map"]
    if not isinstance(files, Mapping) or not files:
        raise _wrong(path, "weight_map", "an object of tensors and their files", files)
    for key, file in files.items():
        if not isinstance(file, str) or not Path(file).name:
            raise _wrong(path, f"weight_map.{key:.80}", "the name of a file", file)
    return sorted(set(files.values()))


def _wrong(path: Path, key: str, expected: str, found: Any) -> CheckpointError:
    place = f"{path}: {key}" if key else str(path)
    return CheckpointError(f"{place}: expected {expected}, got {found!r:.80}")


def uses_quick_gelu(config: Mapping[str, Any]) -> bool:
    """Whether a configuration names OpenAI's approximate GELU (the default of a ``CLIPConfig``)."""
    vision = config.get("vision_config") or config
    default = "quick_gelu" if str(config["model_type"]).startswith("clip") else "gelu"
    return vision.get("hidden_act", default) == "quick_gelu"


def configs(
    tensors: Mapping[str, Tensor], dims: Mapping[str, int], quick_gelu: bool | None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The JSON files that go beside the weights.

    Args:
        tensors: State dict in open_clip naming.
        dims: Sizes by letter, from :func:`fineclip.checkpoints.layout.fit`.
        quick_gelu: Activation where it is known.

    Returns:
        File name -> content, and what had to be assumed, in words.
    """
    heads, text_heads, quick_gelu, notes = _untold(tensors, dims, quick_gelu)
    image_size = position_table(tensors, "the model").image_size
    standard = dims["V"] == _CLIP_VOCABULARY
    text = {
        "model_type": "clip_text_model",
        "vocab_size": dims["V"],
        "hidden_size": dims["W"],
        "intermediate_size": dims["Wh"],
        "num_hidden_layers": count("transformer.resblocks.", tensors),
        "num_attention_heads": text_heads,
        "max_position_embeddings": dims["T"],
        "bos_token_id": dims["V"] - 2,
        # 2 makes transformers take the largest token id, as open_clip does, for any vocabulary.
        "eos_token_id": dims["V"] - 1 if standard else 2,
        "pad_token_id": 0 if not standard else dims["V"] - 1,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": dims["C"],
        "intermediate_size": dims["Ch"],
        "num_hidden_layers": count("visual.transformer.resblocks.", tensors),
        "num_attention_heads": heads,
        "num_channels": 3,
        "image_size": image_size,
        "patch_size": dims["p"],
    }
    common = {
        "hidden_act": "quick_gelu" if quick_gelu else "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": dims["D"],
        "attention_dropout": 0.0,
    }
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": dims["D"],
        "logit_scale_init_value": 2.6592,
        "text_config": text | common,
        "vision_config": vision | common,
    }
    files = {CONFIG: config, "preprocessor_config.json": _preprocessor(image_size)}
    if standard:
        files["tokenizer_config.json"] = _tokenizer(dims["T"])
    return files, notes


def _untold(
    tensors: Mapping[str, Tensor], dims: Mapping[str, int], quick_gelu: bool | None
) -> tuple[int, int, bool, list[str]]:
    """What tensors do not tell: attention heads (image, text) and activation, with notes on them.

    A published architecture of the same sizes tells, if there is one.
    """
    layers = count("visual.transformer.resblocks.", tensors)
    known = known_config(dims, layers, count("transformer.resblocks.", tensors))
    heads, text_heads = dims["C"] // head_width(dims["C"]), dims["W"] // head_width(dims["W"])
    notes = []
    if known:
        name, config = known
        heads = dims["C"] // config["vision_cfg"].get("head_width", 64)
        text_heads = config["text_cfg"].get("heads", text_heads)
        notes.append(f"attention heads {heads} (image), {text_heads} (text), as in {name}")
    else:
        notes.append(
            f"attention heads {heads} (image), {text_heads} (text): assumed, since tensors do not "
            f"tell and no open_clip model has these sizes; if wrong, edit {CONFIG}"
        )
    if quick_gelu is None:
        quick_gelu = bool(known and known[1].get("quick_gelu"))
        notes.append(
            f"activation {'quick_gelu' if quick_gelu else 'gelu'}: open_clip's default for these "
            "sizes; weights that descend from OpenAI's need --quick-gelu"
        )
    return heads, text_heads, quick_gelu, notes


def _preprocessor(image_size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _MEAN,
        "image_std": _STD,
    }


def _tokenizer(length: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "do_lower_case": True,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }


def tokenizer_files() -> dict[str, str]:
    """CLIP's byte-pair vocabulary in the form transformers reads, from open_clip's copy.

    Returns:
        File name -> text.
    """
    packed = resources.files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8")
    # The published list is longer than the vocabulary: CLIP uses its first 48 894 merges.
    merges = lines.split("\n")[1 : _CLIP_VOCABULARY - 256 * 2 - 2 + 1]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }


def _byte_letters() -> list[str]:
    """A printable letter for each byte in CLIP's order: printable bytes first, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(rest)]
