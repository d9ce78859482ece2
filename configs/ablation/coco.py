"""The paper's tables of losses and of competitors, SILC and sigmoid losses, on COCO, ViT-B/16.

Source: FineCLIP (NeurIPS 2024), 8 GPUs x 32, region captions of its authors: box Top1 of FineCLIP
48.4, of L_GC 42.3 (the other rows: configs/fineclip). SILC (ECCV 2024). Not measured here: no COCO.
Command: python tools/ablate.py --config configs/ablation/coco.py --cfg-options data_root=data/coco
One GPU takes the paper's global batch in chunks; several GPUs take turns: workers=8 on 8 GPUs.
Tiny twin: the same with --cfg-options start=None model_name=ViT-Ti-16 image_size=32 crop_size=32
batch_size=4 epochs=1 workers=1 amp=None.
"""

data_root = "data/coco"  # train2017, val2017 and annotations below it
start = "openai"  # start weights of all rows: a tag of open_clip, or a file; None: random
model_name = "ViT-B-16-quickgelu"

image_size = 224
crop_size = 224
epochs = 10
lr = 1e-5
batch_size = 256  # the paper's 8 x 32, encoded in chunks
annotations = "annotations/instances_train2017.json"  # boxes
captions = "annotations/captions_train2017.json"
region_captions = None  # below data_root, by annotation id; None: from the names of categories
num_images = None

workers = 1  # trainings at a time
threads = None  # CPU threads of each; None: torch's choice
amp = "bf16"

# Options of every row, as for --cfg-options of tools/train.py.
refinement = dict(
    model_name=model_name,
    image_size=image_size,
    crop_size=crop_size,
    max_epochs=epochs,
    lr=lr,
    batch_size=batch_size,
    annotations=annotations,
    captions=captions,
    region_captions=region_captions,
    num_images=num_images,
)


def row(method):
    """The training of a method."""
    return dict(config="../fineclip/coco_vit-b-16.py", options=dict(method=method))


# "pretrained" is the start weights as they are. Rows that are the same training run once.
rows = {
    "pretrained": dict(row("clip"), train=False),
    "CLIP": row("clip"),
    "RegionCLIP": row("regionclip"),
    "CLIPSelf": row("clipself"),
    "L_SD": row("sd"),
    "L_GC": row("clip"),
    "L_GC+L_SD": row("gc-sd"),
    "L_RC": row("rc"),
    "FineCLIP": row("fineclip"),
    "SILC": row("silc"),
    "SigLIP-FineCLIP": row("siglip-fineclip"),
}
