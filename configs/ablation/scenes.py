"""The objectives of the paper's two tables, and SILC, on the built-in scenes.

Source: FineCLIP (NeurIPS 2024), ablation of the losses and comparison with CLIP, RegionCLIP and
CLIPSelf; SILC (ECCV 2024). Every row continues the same weights, those of a tiny CLIP trained from
scratch on the captions, for the same number of steps with its own objectives.
Command: python tools/ablate.py --config configs/ablation/scenes.py --seeds 0 1 2
Tiny twin: the same with --cfg-options images=64 val_images=16 pretrain_epochs=1 epochs=1.
"""

images = 3000
val_images = 500

pretrain_epochs = 10
pretrain_lr = 1e-3
pretrain_batch_size = 64

epochs = 5
lr = 1e-3
batch_size = 32

workers = 2  # trainings at a time; on a GPU, 1 keeps times comparable
threads = 1  # CPU threads of each training: two trainings of one beat one of two
amp = "bf16"

scenes = dict(images=images, val_images=val_images, captioner=dict(), twins=0.5)

# Options as for --cfg-options of tools/train.py. Paths of configs are relative to this file.
pretraining = dict(
    config="../fineclip/scenes.py",
    options=dict(
        method="clip",
        max_epochs=pretrain_epochs,
        lr=pretrain_lr,
        batch_size=pretrain_batch_size,
    ),
)
refinement = dict(max_epochs=epochs, lr=lr, batch_size=batch_size)  # options of every row


def row(method, **changes):
    """The training of a method."""
    return dict(config="../fineclip/scenes.py", options=dict(method=method), **changes)


# A row without a config is the start weights themselves; rows that are the same training run once.
# `start` is the option that receives the start weights: "pretrained" unless said otherwise. A row's
# own options come after the shared ones: --cfg-options rows.SILC.options.num_local=4.
rows = {
    "pretrained": dict(config=None),
    "CLIP": row("clip"),
    "RegionCLIP": row("regionclip"),
    "CLIPSelf": row("clipself"),
    "L_SD": row("sd"),
    "L_GC": row("clip"),
    "L_GC+L_SD": row("gc-sd"),
    "L_RC": row("rc"),
    "FineCLIP": row("fineclip"),
    "SILC": row("silc"),
    "SigLIP-FineCLIP": row("siglip-fineclip", start="load_from"),
    "SigLIP-SILC": row("siglip-silc", start="load_from"),
    "RegionCLIP-concepts": row("regionclip-concepts"),
    "FILIP": row("filip"),
    "SPARC": row("sparc"),
    "PACL": row("pacl"),
    "GLoRIA": row("gloria"),
    "MGCA": row("mgca"),
}
