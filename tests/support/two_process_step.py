"""One optimizer step, alone or on two gloo processes; see test_two_processes.py."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from fineclip.embeddings import Embeddings
from fineclip.engine.sharding import FullyShardedModel
from fineclip.evaluation.image_metric import ImageMetric
from fineclip.models import DenseCLIP
from fineclip.objectives import (
    FILIP,
    MGCA,
    PACL,
    SPARC,
    CLIPSelfDistillation,
    GlobalContrastive,
    GLoRIA,
    LocalToGlobalDistillation,
    RegionCLIPLoss,
    RegionConceptMatching,
    RegionContrastive,
    SelfDistillation,
    SigmoidGlobalContrastive,
    SigmoidRegionContrastive,
    SigmoidViewContrastive,
    ViewContrastive,
    compared_fields,
)
from fineclip.parallel import gather_embeddings, sum_shares
from fineclip.pretraining import FineCLIPPretrainer

MODELS = ("ViT-Ti-16", "EVA02-Ti-16")
FORMS = ("global", "local")  # every rank evaluates all losses, or those of its own rows
CHUNKS = {"images": 1, "crops": 2, "texts": 3}
STEPS = {
    "global": {},
    "local": {"local_loss": True},
    "chunked": {"chunk_sizes": CHUNKS},
    "local-chunked": {"local_loss": True, "chunk_sizes": CHUNKS},
}
COUNTS = {"different": [2, 1, 0, 3], "none_on_rank_1": [2, 3, 0, 0]}  # regions of each image
CASES = [(model, "different") for model in MODELS] + [("EVA02-Ti-16", "none_on_rank_1")]


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


def make_model(model_name, **kwargs):
    torch.manual_seed(0)
    return FineCLIPPretrainer(
        DenseCLIP.create(model_name),
        [GlobalContrastive(), RegionContrastive(), SelfDistillation()],
        trainable=("image", "text", "logit_scale"),
        **kwargs,
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


def losses_and_gradients(model_name, counts, rank, world_size, **kwargs):
    """What one step logs and the gradient of every parameter, in float64 outside of the losses.

    And how many numbers of gradients a process sent around.
    """
    model = make_model(model_name, **kwargs).double()
    share = 4 // world_size
    batch = take_images(make_batch(counts), rank * share, (rank + 1) * share)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    sent = [0]
    if world_size > 1:
        wrapped.register_comm_hook(sent, count_and_average)
    outputs = wrapped(**batch, mode="loss")
    sum(value for name, value in outputs.items() if name.startswith("loss_")).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in outputs.items()}, gradients, sent[0]


def count_and_average(sent, bucket):
    sent[0] += bucket.buffer().numel()
    return allreduce_hook(None, bucket)


def sharded_step(model_name, counts, rank):
    """A step of the sharded model; whole parameters, loaded ones, and the share that is held."""
    wrapped = FullyShardedModel(make_model(model_name))
    model = wrapped.module
    held = sum(p.to_local().numel() for p in model.parameters())
    held /= sum(p.numel() for p in model.parameters())
    batch = take_images(make_batch(counts), 2 * rank, 2 * rank + 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = wrapped(**batch, mode="loss")
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    optimizer.step()
    whole = wrapped.whole_state_dict()
    momentum = wrapped.whole_optimizer_state(optimizer)

    # What rank 0 has written, every rank reads.
    other = FullyShardedModel(make_model(model_name))
    saved = [whole, {**optimizer.state_dict(), "state": momentum}]
    dist.broadcast_object_list(saved, 0)
    other.module.load_state_dict(saved[0])
    second = torch.optim.SGD(other.module.parameters(), lr=0.1, momentum=0.5)
    other.load_whole_optimizer_states(second)
    second.load_state_dict(saved[1])
    loaded = other.whole_state_dict(), other.whole_optimizer_state(second)
    return {"whole": (whole, momentum), "loaded": loaded, "held": held}


VIEWS = (
    "student_prototypes",
    "teacher_prototypes",
    "global_view",
)  # (V, B, P): images are the second size


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
        "global_view": (2, 4, 8),
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


def evaluate_objectives(counts, first, last, local_loss=False):
    """Losses, the center, and the gradients of some images' rows; what has been gathered.

    Divide the gradients by the number of processes, as DistributedDataParallel does.
    """
    embeddings = take_rows(make_embeddings(counts), first, last)
    for value in vars(embeddings).values():
        if value.is_floating_point():
            value.requires_grad_()
    distillation = LocalToGlobalDistillation(num_prototypes=7)
    torch.manual_seed(3)
    mgca = MGCA(embed_dim=8, num_prototypes=5)
    objectives = [
        GlobalContrastive(),
        RegionContrastive(),
        SelfDistillation(),
        CLIPSelfDistillation(),
        RegionCLIPLoss(num_sampled=12),
        SigmoidGlobalContrastive(),
        SigmoidRegionContrastive(),
        distillation,
        FILIP(),
        SPARC(),
        PACL(factor=10),
        SPARC(unit_patches=True, mean="tokens"),
        GLoRIA(),
        mgca,
        RegionConceptMatching(min_score=0.1),
        ViewContrastive(),
        SigmoidViewContrastive(),
    ]
    gathered = gather_embeddings(embeddings, local_loss=local_loss)
    losses = {
        f"{number}.{type(objective).__name__}.{name}": loss
        for number, objective in enumerate(objectives)
        for name, loss in objective(gathered).items()
    }
    if local_loss:
        losses = sum_shares(losses)
    sum(losses.values()).backward()
    gradients = {
        name: value.grad for name, value in vars(embeddings).items() if value.grad is not None
    }
    gradients["mgca_prototypes"] = mgca.prototypes.grad
    outputs = {
        **{name: loss.detach() for name, loss in losses.items()},
        **{name: getattr(gathered, name) for name in ("region_image", "region_label", "text_mask")},
        "center": distillation.center,
    }
    return outputs, gradients


def gather_compared(counts, first, last):
    """Which fields the local form of row-wise and of contrastive objectives gathers."""
    embeddings = take_rows(make_embeddings(counts), first, last)
    found = {}
    for objective in (SelfDistillation(), SigmoidRegionContrastive(), RegionContrastive()):
        compared = compared_fields([objective, CLIPSelfDistillation()])
        gathered = gather_embeddings(embeddings, local_loss=True, compared=compared)
        found[type(objective).__name__] = {
            name: len(value)
            for name, value in vars(gathered).items()
            if isinstance(value, torch.Tensor) and value.ndim and name != "vocabulary"
        }
    return found, [gathered.num_regions, len(gathered.own.region)]


class Ids(ImageMetric):
    """What was evaluated and what was skipped."""

    def process(self, data_batch, data_samples):
        self.note_skipped(data_batch)
        self.results += [dict(sample) for sample in data_samples]

    def compute(self, records, skipped):
        return {"ids": sorted(r["image_id"] for r in records), "skipped": sorted(skipped)}


def samples(*ids):
    return [{"image_id": id_} for id_ in ids]


def evaluate_ids(rank, folder):
    metric = Ids(collect_dir=f"{folder}/parts")
    # Image 0 pads rank 1 after two files that could not be read: cutting the joined list to
    # the size of the data set, as mmengine does, would lose image 4.
    metric.process({"skipped": [("1", "a"), ("3", "b")] if rank else []}, [])
    metric.process({"skipped": []}, samples(0, 2, 4) if rank == 0 else samples(0))
    return metric.evaluate(size=2)


def main():
    store, folder = sys.argv[1:]
    child = os.fork()  # after the imports, which take longer than all steps
    run(int(child == 0), store, folder)
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run(rank, store, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for model_name, case in CASES:
        counts, file = COUNTS[case], f"{folder}/{model_name}-{case}"
        torch.save(step(model_name, counts, rank, 2), f"{file}-{rank}.pt")
        torch.save(sharded_step(model_name, counts, rank), f"{file}-sharded-{rank}.pt")
        for form, options in STEPS.items():
            result = losses_and_gradients(model_name, counts, rank, 2, **options)
            torch.save(result, f"{file}-{form}-{rank}.pt")
    # The first rank has three of the four images.
    part = (0, 3) if rank == 0 else (3, 4)
    for case, counts in COUNTS.items():
        for form in (False, True):
            result = evaluate_objectives(counts, *part, form)
            torch.save(result, f"{folder}/objectives-{case}-{FORMS[form]}-{rank}.pt")
        torch.save(gather_compared(counts, *part), f"{folder}/compared-{case}-{rank}.pt")
    torch.save(evaluate_ids(rank, folder), f"{folder}/ids-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
