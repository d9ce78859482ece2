"""Tiny models of transformers with random weights, saved as folders: real code, no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = (
    *("a", "an", "photo", "of", "cat", "dog", "red", "umbrella", "on", "the", "grass", "."),
    *("short", "description", "this", "image", "what"),
)
CHAT = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def tokenizer(**options: Any) -> t.PreTrainedTokenizerFast:
    """One token per word of :data:`WORDS`."""
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{
            "pad_token": "<pad>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 64,
            "padding_side": "left",
            **options,
        },
    )


def _size(text: t.PreTrainedTokenizerFast) -> int:
    return len(text)


def rt_detr(folder: Path) -> None:
    """Classes "thing 0" to "thing 3", images at 64 pixels."""
    config = t.RTDetrConfig(
        backbone_config=t.RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], encoder_ffn_dim=16,
        encoder_attention_heads=2, d_model=16, num_queries=12, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_denoising=0,
        id2label={place: f"thing {place}" for place in range(4)},
        label2id={f"thing {place}": place for place in range(4)},
    )  # fmt: skip
    t.RTDetrForObjectDetection(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    t.RTDetrImageProcessor(size=size).save_pretrained(folder)


def owlv2(folder: Path) -> None:
    """Finds words, images at 32 pixels."""
    text = tokenizer(padding_side="right")
    config = t.Owlv2Config(
        text_config={
            "vocab_size": _size(text), "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
        },
        projection_dim=16,
    )  # fmt: skip
    t.Owlv2ForObjectDetection(config).save_pretrained(folder)
    text.model_max_length = 16
    images = t.Owlv2ImageProcessor(size={"height": 32, "width": 32})
    t.Owlv2Processor(images, text).save_pretrained(folder)


def grounding_dino(folder: Path) -> None:
    """Finds words; images keep their aspect ratio, about 100 pixels."""
    text = bert_tokenizer(folder)
    config = t.GroundingDinoConfig(
        backbone_config=t.SwinConfig(
            image_size=48, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=3,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=t.BertConfig(
            vocab_size=len(text), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=64,
        ),
        num_queries=6, encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2,
        decoder_layers=2, decoder_ffn_dim=16, decoder_attention_heads=2, d_model=32,
        max_text_len=64, num_feature_levels=4,
    )  # fmt: skip
    t.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = t.GroundingDinoImageProcessor(size={"shortest_edge": 100, "longest_edge": 160})
    t.GroundingDinoProcessor(images, text).save_pretrained(folder)


def bert_tokenizer(folder: Path) -> Any:
    """A WordPiece of :data:`WORDS`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", *WORDS]
    file = folder / "vocab.txt"
    file.write_text("\n".join(words))
    return t.BertTokenizer(vocab={word: place for place, word in enumerate(words)})


def sam(folder: Path) -> None:
    """Masks of images at 64 pixels."""
    config = t.SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "mlp_dim": 16,
            "num_attention_heads": 2, "image_size": 64, "patch_size": 16, "window_size": 0,
            "global_attn_indexes": [0], "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4,
            "image_embedding_size": 4,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16, "iou_head_depth": 2,
        },
    )  # fmt: skip
    t.SamModel(config).save_pretrained(folder)
    side = {"longest_edge": 64}
    t.SamImageProcessor(size=side, pad_size={"height": 64, "width": 64}).save_pretrained(folder)


_VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip


def _opt(size: int) -> t.OPTConfig:
    return t.OPTConfig(
        vocab_size=size, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
        word_embed_proj_dim=16, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip


def blip2(folder: Path) -> None:
    """An OPT reads 4 query tokens of images at 32 pixels."""
    text = tokenizer()
    config = t.Blip2Config(
        vision_config=_VISION,
        qformer_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "encoder_hidden_size": 16, "vocab_size": _size(text),
        },
        text_config=_opt(_size(text)).to_dict(),
        num_query_tokens=4,
        image_token_index=4,
    )  # fmt: skip
    model = t.Blip2ForConditionalGeneration(config)
    _save_generator(model, folder)
    images = t.BlipImageProcessor(size={"height": 32, "width": 32})
    t.Blip2Processor(images, text, num_query_tokens=4).save_pretrained(folder)


def git(folder: Path) -> None:
    """A captioner without a prompt."""
    text = bert_tokenizer(folder)
    config = t.GitConfig(
        vision_config=_VISION, vocab_size=len(text), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, max_position_embeddings=64, bos_token_id=2,
        eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    _save_generator(t.GitForCausalLM(config), folder)
    images = t.CLIPImageProcessor(size={"height": 32, "width": 32}, crop_size=32)
    t.GitProcessor(images, text).save_pretrained(folder)


def blip(folder: Path) -> None:
    """A captioner that begins with a prompt, or without."""
    text = bert_tokenizer(folder)
    config = t.BlipConfig(
        vision_config=_VISION,
        text_config={
            "vocab_size": len(text), "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64,
            "encoder_hidden_size": 16, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3,
            "pad_token_id": 0,
        },
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    _save_generator(t.BlipForConditionalGeneration(config), folder)
    images = t.BlipImageProcessor(size={"height": 32, "width": 32})
    t.BlipProcessor(images, text).save_pretrained(folder)


def encoder_decoder(folder: Path) -> None:
    """A vision encoder and a text decoder."""
    text = bert_tokenizer(folder)
    decoder = t.BertConfig(
        vocab_size=len(text), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    config = t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        t.ViTConfig(**_VISION), decoder
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    model = t.VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = 2
    _save_generator(model, folder)
    t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    text.save_pretrained(folder)


def chat(folder: Path) -> None:
    """A LLaVA, which is asked in messages."""
    text = tokenizer(extra_special_tokens={"image_token": "<image>"})
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**_VISION),
        text_config=t.LlamaConfig(
            vocab_size=_size(text), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        ),
        image_token_index=4, vision_feature_layer=-1,
    )  # fmt: skip
    _save_generator(t.LlavaForConditionalGeneration(config), folder)
    images = t.CLIPImageProcessor(size={"height": 32, "width": 32}, crop_size=32)
    t.LlavaProcessor(
        images, text, patch_size=16, vision_feature_select_strategy="default",
        chat_template=CHAT, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip


def _save_generator(model: Any, folder: Path) -> None:
    """Random weights that are far from each other, so that answers depend on the image."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)


def make(kind: Callable[[Path], None], folder: Path) -> Path:
    """Writes a model, the same each time; nothing if it is there."""
    if not (folder / "config.json").exists():
        with torch.random.fork_rng():
            torch.manual_seed(3)  # of which captions of BLIP-2 depend on the image
            kind(folder)
    return folder


def pickled(folder: Path) -> Path:
    """Replaces the weights of a folder by a pickle of them."""
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def with_code(folder: Path) -> Path:
    """A model that asks for code of its own."""
    folder.mkdir(parents=True)
    maps = {"AutoConfig": "own.Config", "AutoModelForObjectDetection": "own.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": maps}))
    (folder / "own.py").write_text("raise SystemExit('code of a model was run')")
    return folder
