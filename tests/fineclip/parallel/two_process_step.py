"""One optimizer step, alone or on one of two gloo processes; see test_two_processes.py."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fineclip.embeddings import Embeddings
from fineclip.models import DenseCLIP, FineCLIPPretrainer
from fineclip.objectives import (
    FILIP,
    PACL,
    SPARC,
    CLIPSelfDistillation,
    GlobalContrastive,
    LocalToGlobalDistillation,
    RegionCLIPLoss,
    RegionContrastive,
    SelfDistillation,
    SigmoidGlobalContrastive,
    SigmoidRegionContrastive,
)
from fineclip.parallel import gather_embeddings

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


VIEWS = ("student_prototypes", "teacher_prototypes")  # (V, B, P): images are the second size


def make_embeddings(counts):
    """Every field for the global batch of four images."""
    generator = torch.Generator().manual_seed(2)
    total = sum(counts)
    shapes = {
        **dict.fromkeys(("image", "text"), (4, 8)),
        **dict.fromkeys(("region", "crop", "region_text", "teacher_crop"), (total, 8)),
        "vocabulary": (30, 8),
        "student_prototypes": (3, 4, 7),
        "teacher_prototypes": (2, 4, 7),
        "patches": (4, 5, 8),
        "text_tokens": (4, 6, 8),
    }
    return Embeddings(
        **{name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()},
        region_image=torch.arange(4).repeat_interleave(torch.tensor(counts)),
        region_label=torch.randint(-1, 30, (total,), generator=generator),
        text_mask=torch.arange(6) < torch.tensor([[3], [6], [1], [5]]),
        logit_scale=torch.tensor(1.5),
        logit_bias=torch.tensor(-1.0),
    )


def take_rows(embeddings, first, last):
    """The fields of some images; what all ranks share stays."""
    keep = (embeddings.region_image >= first) & (embeddings.region_image < last)
    part = {}
    for name, value in vars(embeddings).items():
        if name in VIEWS:
            value = value[:, first:last]
        elif "region" in name or "crop" in name:
            value = value[keep]
        elif value.ndim and name != "vocabulary":
            value = value[first:last]
        part[name] = value.clone()
    part["region_image"] -= first
    return Embeddings(**part)


def evaluate_objectives(counts, first, last):
    """Losses and gathered integers, the center, and the gradients of some images' rows.

    Divide the gradients by the number of processes, as DistributedDataParallel does.
    """
    embeddings = take_rows(make_embeddings(counts), first, last)
    for value in vars(embeddings).values():
        if value.is_floating_point():
            value.requires_grad_()
    gathered = gather_embeddings(embeddings)
    distillation = LocalToGlobalDistillation(num_prototypes=7)
    objectives = [
        CLIPSelfDistillation(),
        RegionCLIPLoss(num_sampled=12),
        SigmoidGlobalContrastive(),
        SigmoidRegionContrastive(),
        distillation,
        FILIP(),
        SPARC(),
        PACL(),
    ]
    losses = {}
    for objective in objectives:
        losses.update(objective(gathered))
    sum(losses.values()).backward()
    gradients = {
        name: value.grad for name, value in vars(embeddings).items() if value.grad is not None
    }
    outputs = {
        **{name: loss.detach() for name, loss in losses.items()},
        **{name: getattr(gathered, name) for name in ("region_image", "region_label", "text_mask")},
        "center": distillation.center,
    }
    return outputs, gradients


def main():
    rank, store, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for model_name in MODELS:
        for case, counts in COUNTS.items():
            torch.save(step(model_name, counts, rank, 2), f"{folder}/{model_name}-{case}-{rank}.pt")
    # The first rank has three of the four images.
    for case, counts in COUNTS.items():
        result = evaluate_objectives(counts, *((0, 3) if rank == 0 else (3, 4)))
        torch.save(result, f"{folder}/objectives-{case}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
