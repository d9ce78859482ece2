"""One optimizer step, alone or on one of two gloo processes; see test_two_processes.py."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fineclip.models import DenseCLIP, FineCLIPPretrainer
from fineclip.objectives import GlobalContrastive, RegionContrastive, SelfDistillation

MODELS = ("ViT-Ti-16", "EVA02-Ti-16")
COUNTS = {"different": [2, 1, 0, 3], "none_on_rank_1": [2, 3, 0, 0]}  # regions of each image


def make_batch(counts):
    """The global batch of four images."""
    generator = torch.Generator().manual_seed(1)
    total = sum(counts)
    low = torch.rand(total, 2, generator=generator) * 0.5
    tokens = torch.randint(1, 500, (4 + total, 77), generator=generator)
    return {
        "images": torch.randn(4, 3, 32, 32, generator=generator),
        "texts": tokens[:4],
        "boxes": torch.cat([low, low + 0.4], dim=1),
        "region_image": torch.arange(4).repeat_interleave(torch.tensor(counts)),
        "crops": torch.randn(total, 3, 32, 32, generator=generator),
        "region_texts": tokens[4:],
    }


def take_images(batch, first, last):
    keep = (batch["region_image"] >= first) & (batch["region_image"] < last)
    part = {name: batch[name][first:last] for name in ("images", "texts")}
    part.update({name: batch[name][keep] for name in ("boxes", "crops", "region_texts")})
    part["region_image"] = batch["region_image"][keep] - first
    return part


def make_model(model_name):
    torch.manual_seed(0)
    return FineCLIPPretrainer(
        DenseCLIP.create(model_name),
        [GlobalContrastive(), RegionContrastive(), SelfDistillation()],
        trainable=("image", "text", "logit_scale"),
    )


def step(model_name, counts, rank, world_size):
    model = make_model(model_name)
    share = 4 // world_size
    batch = take_images(make_batch(counts), rank * share, (rank + 1) * share)
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    # Plain SGD: Adam would blow rounding noise in tiny gradients up to full steps.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = wrapped(**batch, mode="loss")
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def main():
    rank, store, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for model_name in MODELS:
        for case, counts in COUNTS.items():
            torch.save(step(model_name, counts, rank, 2), f"{folder}/{model_name}-{case}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
