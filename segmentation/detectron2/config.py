"""CAT-Seg's configuration keys for detectron2."""

from __future__ import annotations

import copy
from typing import Any

from detectron2.config import CfgNode

# The reference's keys and defaults; those marked have no effect on this model, there as here, and
# exist so that published yaml files load.
_REFERENCE_MODEL: dict[str, dict[str, Any]] = {
    "MODEL.SEM_SEG_HEAD": {
        # A JSON file with a list of names, or the name of a vocabulary of fineclip's. Empty: the
        # data set's own names; so is every one of several data sets evaluated.
        "TRAIN_CLASS_JSON": "datasets/ADE20K_2021_17_01/ADE20K_847.json",
        "TEST_CLASS_JSON": "datasets/ADE20K_2021_17_01/ADE20K_847.json",
        "TRAIN_CLASS_INDEXES": "datasets/coco/coco_stuff/split/seen_indexes.json",  # no effect
        "TEST_CLASS_INDEXES": "datasets/coco/coco_stuff/split/unseen_indexes.json",  # no effect
        # OpenAI's name, or any of open_clip's.
        "CLIP_PRETRAINED": "ViT-B/16",
        # Both must be the width of CLIP's embeddings.
        "TEXT_GUIDANCE_DIM": 512,
        "TEXT_GUIDANCE_PROJ_DIM": 128,
        "APPEARANCE_GUIDANCE_DIM": 512,
        "APPEARANCE_GUIDANCE_PROJ_DIM": 128,
        "DECODER_DIMS": [64, 32],
        "DECODER_GUIDANCE_DIMS": [256, 128],
        "DECODER_GUIDANCE_PROJ_DIMS": [32, 16],
        "NUM_LAYERS": 4,
        "NUM_HEADS": 4,
        "HIDDEN_DIMS": 128,
        "POOLING_SIZES": [6, 6],
        # (height, width) of the grid in patches: CLIP's input is this times its patch.
        "FEATURE_RESOLUTION": [24, 24],
        "WINDOW_SIZES": 12,
        "ATTENTION_TYPE": "linear",
        "PROMPT_DEPTH": 0,
        "PROMPT_LENGTH": 0,
        # attention, full, prompt, frozen; the reference takes any other word for frozen.
        "CLIP_FINETUNE": "attention",
    },
    "MODEL.MASK_FORMER": {"SIZE_DIVISIBILITY": 32},
    "MODEL.SWIN": {  # no effect
        "PRETRAIN_IMG_SIZE": 224,
        "PATCH_SIZE": 4,
        "EMBED_DIM": 96,
        "DEPTHS": [2, 2, 6, 2],
        "NUM_HEADS": [3, 6, 12, 24],
        "WINDOW_SIZE": 7,
        "MLP_RATIO": 4.0,
        "QKV_BIAS": True,
        "QK_SCALE": None,
        "DROP_RATE": 0.0,
        "ATTN_DROP_RATE": 0.0,
        "DROP_PATH_RATE": 0.3,
        "APE": False,
        "PATCH_NORM": True,
        "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    },
}
_REFERENCE: dict[str, dict[str, Any]] = {
    "MODEL": {
        # Average the templates of PROMPT_ENSEMBLE_TYPE into one vector per class, as networks with
        # one prompt channel need it; false: one channel per template. (No effect in the reference.)
        "PROMPT_ENSEMBLE": False,
        # "single": CAT-Seg's sentence; or a name of fineclip.text.TEMPLATES, such as "imagenet" or
        # "imagenet_select".
        "PROMPT_ENSEMBLE_TYPE": "single",
        "CLIP_PIXEL_MEAN": [122.7709383, 116.7460125, 104.09373615],
        "CLIP_PIXEL_STD": [68.5005327, 66.6321579, 70.323163],
    },
    "INPUT": {
        "DATASET_MAPPER_NAME": "mask_former_semantic",
        "COLOR_AUG_SSD": False,
        # The side training crops are filled up to, not a divisor.
        "SIZE_DIVISIBILITY": -1,
    },
    "DATASETS": {"VAL_ALL": ["coco_2017_val_all_stuff_sem_seg"]},  # no effect
    "SOLVER": {
        "WEIGHT_DECAY_EMBED": 0.0,
        "OPTIMIZER": "ADAMW",
        "BACKBONE_MULTIPLIER": 0.1,  # no effect
        "CLIP_MULTIPLIER": 0.01,
    },
    "TEST": {"SLIDING_WINDOW": False},
}

# What the reference has built in.
_OURS: dict[str, dict[str, Any]] = {
    "": {
        # Where curves go beside metrics.json: keys of fineclip.configuration.backends.BACKENDS.
        "LOG_TO": ["tensorboard"],
        # What a training calls its configuration; load_config puts the file's name here.
        "CONFIG_NAME": "",
        # The schedule follows from the data that --data names, and the network from the start.
        "RECIPE": False,
    },
    "MODEL": {
        # Names that parameters which train begin with, such as
        # "sem_seg_head.predictor.transformer.head"; all others are frozen. Empty: none is.
        "TRAINED_PARTS": [],
    },
    "DATASETS": {
        # data.yaml files whose splits are registered, in every process.
        "DESCRIPTIONS": [],
        # A data set that keeps what a segmenter knew: this share of the steps is on it alone, with
        # its own classes.
        "REHEARSE": [],
        "REHEARSE_SHARE": 0.2,
    },
    "MODEL.SEM_SEG_HEAD": {
        # Path of a checkpoint in any format of fineclip.checkpoints, or an open_clip tag. Empty:
        # OpenAI's weights for OpenAI's names, random ones for others. "none": random ones.
        "CLIP_WEIGHTS": "",
        # Block indices; empty: the ends of the image tower's first and second third.
        "GUIDANCE_LAYERS": [],
        # Class budget; 0: none, and no padding tokens.
        "PAD_LENGTH": 256,
        # Residual of the last CLIP block: "class_token" (released weights need it), "own" (weights
        # of FineCLIP and CLIPSelf), or "auto": what the weights were trained with, the release's
        # where they were trained with neither.
        "CLIP_RESIDUAL": "auto",
        # Count the pooled cost volume twice (released weights need it).
        "DOUBLED_RESIDUAL": True,
        # Pixels with the ignore label are trained as none of the classes (as the release was).
        "IGNORED_AS_NEGATIVES": True,
        # Training classes that a step's loss is computed over: those that occur in its labels and
        # others at random; 0: all.
        "CLASSES_PER_STEP": 0,
        # Use only what comes before the first ", " of a class name.
        "FIRST_SYNONYM": True,
    },
    "TEST": {
        "SLIDING_WINDOW_CANVAS": [640, 640],
        "SLIDING_WINDOW_SIZE": 384,
        "SLIDING_WINDOW_OVERLAP": 0.333,
        # Of the class attention at evaluation, in place of POOLING_SIZES, which training uses (the
        # pooling has no weights); empty: the same.
        "POOLING_SIZES": [],
        # Images of a data set answered at a time.
        "IMS_PER_BATCH": 1,
        # bfloat16 autocast at evaluation.
        "AMP": False,
        # Of what runs at a time at inference, roughly, beside weights and result.
        "MEMORY_BUDGET_MB": 2048,
    },
}
# Keys of detectron2's DeepLab project that the reference's yaml files may name; only the first two
# lines concern anything that is used here.
_DEEPLAB: dict[str, dict[str, Any]] = {
    "INPUT.CROP": {"SINGLE_CATEGORY_MAX_AREA": 1.0},
    "SOLVER": {"POLY_LR_POWER": 0.9, "POLY_LR_CONSTANT_ENDING": 0.0},
    "MODEL.SEM_SEG_HEAD": {
        "LOSS_TYPE": "hard_pixel_mining",
        "PROJECT_FEATURES": ["res2"],
        "PROJECT_CHANNELS": [48],
        "ASPP_CHANNELS": 256,
        "ASPP_DILATIONS": [6, 12, 18],
        "ASPP_DROPOUT": 0.1,
        "USE_DEPTHWISE_SEPARABLE_CONV": False,
    },
    "MODEL.RESNETS": {
        "RES4_DILATION": 1,
        "RES5_MULTI_GRID": [1, 2, 4],
        "STEM_TYPE": "deeplab",
    },
}


def add_cat_seg_config(cfg: CfgNode) -> None:
    """Adds CAT-Seg's keys, with the reference's names and defaults, and those of this package.

    Keys of the DeepLab project, which published yaml files may hold, are added as well where they
    are missing.

    Args:
        cfg: Of ``detectron2.config.get_cfg()``; changed in place.
    """
    for table in (_REFERENCE_MODEL, _REFERENCE, _OURS):
        for place, keys in table.items():
            node = cfg
            for part in filter(None, place.split(".")):
                node = node.setdefault(part, CfgNode())
            # Lists are copied: configurations must not share them.
            node.update(copy.deepcopy(keys))
    for place, keys in _DEEPLAB.items():
        node = cfg
        for part in place.split("."):
            node = node[part]
        for key, value in keys.items():
            node.setdefault(key, copy.deepcopy(value))
