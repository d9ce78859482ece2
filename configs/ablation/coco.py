"""The paper's tables of losses and of competitors, SILC, sigmoids and token losses, on COCO.

Source: FineCLIP (NeurIPS 2024), EVA02-CLIP-B/16, COCO train2017 with the release's boxes and region
captions, 8 GPUs x 32, evaluated on val2017: box Top1 of FineCLIP 48.4, of L_GC 42.3 (the other
rows: configs/README.md). SILC (ECCV 2024). Not measured here: no COCO.
Command: python tools/ablate.py --config configs/ablation/coco.py --cfg-options data_root=data/coco
    annotations=annotations/coco_proposals.json region_captions=annotations/coco_captions.json
One GPU takes the paper's global batch in chunks; several GPUs take turns: workers=8 on 8 GPUs.
OpenAI's ViT-B/16, to which no figure belongs: start=openai model_name=ViT-B-16-quickgelu.
Tiny twin: the same with --cfg-options start=None model_name=EVA02-Ti-16 image_size=32 crop_size=32
batch_size=4 epochs=1 workers=1 amp=None.
"""

data_root = "data/coco"  # train2017, val2017 and annotations below it
start = "merged2b_s8b_b131k"  # of all rows: a tag of open_clip, or a file; None: random weights
model_name = "EVA02-B-16"

image_size = 224
crop_size = 224
epochs = 10
lr = 1e-5
batch_size = 256  # the paper's 8 x 32, encoded in chunks
annotations = "annotations/instances_train2017.json"  # boxes
captions = "annotations/captions_train2017.json"
region_captions = None  # below data_root; None: from the names of categories
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
    return dict(config="../fineclip/coco_eva02-b-16.py", options=dict(method=method))


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
    "SigLIP-SILC": row("siglip-silc"),
    "RegionCLIP-concepts": row("regionclip-concepts"),
    "FILIP": row("filip"),
    "SPARC": row("sparc"),
    "PACL": row("pacl"),
    "GLoRIA": row("gloria"),
    "MGCA": row("mgca"),
}
