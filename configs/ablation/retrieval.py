"""The paper's retrieval table: Flickr30k and COCO val2017, R@1, R@5 and R@10 of all its methods.

Source: FineCLIP (NeurIPS 2024), EVA02-CLIP-B/16, R@1 I2T / T2I on Flickr30k and on COCO. Trained on
its CC2.5M, whose batch is not published: CLIP 81.6 / 64.9, 51.1 / 37.6; RegionCLIP 3.9 / 7.9, 2.0 /
3.4; CLIPSelf 33.8 / 35.0, 18.8 / 16.1; FineCLIP 82.5 / 67.9, 54.5 / 40.2. Not trained: 84.0 / 71.6,
56.2 / 42.4. The table's rows of SPARC (84.4 / 72.0, 57.6 / 43.0), PACL (69.6 / 54.9, 41.8 / 29.1),
GLoRIA (78.0 / 68.4, 49.7 / 38.9), MGCA (82.2 / 67.7, - / 39.8) and FILIP (69.0 / 55.8, 40.2 / 29.5)
are of models trained on other data; here they train on the same as all others. Not measured here.
Data: docs/data.md; flickr_root holds images/ and flickr30k_test.json.
Command: python tools/ablate.py --config configs/ablation/retrieval.py
    --cfg-options data_root=data/cc2.5m val_root=data/coco flickr_root=data/flickr30k
On COCO instead of CC2.5M: data_root=data/coco data=coco.
"""

data = "cc2.5m"  # or "coco": which of configs/fineclip the rows are trained by
data_root = "data/cc2.5m"
val_root = "data/coco"
flickr_root = "data/flickr30k"
start = "merged2b_s8b_b131k"  # of all rows: a tag of open_clip, or a file; None: random weights
model_name = "EVA02-B-16"

image_size = 224
crop_size = 224
epochs = 10
lr = 1e-5
batch_size = 256  # encoded in chunks
num_images = None

workers = 1  # trainings at a time
threads = None  # CPU threads of each; None: torch's choice
amp = "bf16"

# Columns: the tasks of the test, and what they measure.
metrics = {
    f"{task}/{way}_r{k}": f"{name} {way.upper()} R@{k}"
    for task, name in (("flickr30k", "Flickr30k"), ("retrieval", "COCO"))
    for way in ("i2t", "t2i")
    for k in (1, 5, 10)
}

# Options of every row, as for --cfg-options of tools/train.py.
refinement = dict(
    model_name=model_name,
    val_root=val_root,
    flickr_root=flickr_root,
    image_size=image_size,
    crop_size=crop_size,
    max_epochs=epochs,
    lr=lr,
    batch_size=batch_size,
    num_images=num_images,
)


def row(method):
    """The training of a method."""
    return dict(config=f"../fineclip/{data}_eva02-b-16.py", options=dict(method=method))


rows = {
    "pretrained": dict(row("clip"), train=False),
    "SPARC": row("sparc"),
    "PACL": row("pacl"),
    "GLoRIA": row("gloria"),
    "MGCA": row("mgca"),
    "FILIP": row("filip"),
    "CLIP": row("clip"),
    "RegionCLIP": row("regionclip"),
    "CLIPSelf": row("clipself"),
    "FineCLIP": row("fineclip"),
}
