"""Chunked encoding: the plain step's losses and gradients, for a chunk's memory."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from fineclip.datasets import ShapedCrops
from fineclip.models import DenseCLIP
from fineclip.objectives import (
    FILIP,
    GlobalContrastive,
    LocalToGlobalDistillation,
    RegionContrastive,
    SelfDistillation,
    ViewContrastive,
)
from fineclip.parallel.chunked import (
    WHOLE,
    ChunkPlanner,
    Chunks,
    EncodeJob,
    free_memory,
    saved_bytes,
)
from fineclip.pretraining import FineCLIPPretrainer

CHUNKS = {"images": 2, "crops": 3, "texts": 2, "views": 1}
ALL = ("image", "text", "logit_scale")


def make_batch(counts=(2, 0, 4, 1, 3)):
    total = sum(counts)
    low = torch.rand(total, 2) * 0.5
    texts = torch.zeros(len(counts) + total, 77, dtype=torch.int64)
    for row in texts:
        length = int(torch.randint(3, 20, ()))
        row[:length] = torch.randint(1, 400, (length,))
        row[length] = 511
    texts[-1] = texts[-3]  # one region caption twice
    return {
        "images": torch.randn(len(counts), 3, 32, 48),
        "texts": texts[: len(counts)],
        "boxes": torch.cat([low, low + 0.4], dim=1),
        "region_image": torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        "crops": torch.randn(total, 3, 32, 32),
        "region_texts": texts[len(counts) :],
    }


def fineclip():
    return [GlobalContrastive(), RegionContrastive(), SelfDistillation()]


def gradients_of(clip, batch, *, chunk_sizes=None, objectives=fineclip, seed=3, **kwargs):
    model = FineCLIPPretrainer(
        clip, objectives(), trainable=ALL, chunk_sizes=chunk_sizes, **kwargs
    ).train()
    model.zero_grad()
    torch.manual_seed(seed)  # for models that draw
    outputs = model(**batch, mode="loss")
    losses = {name: value for name, value in outputs.items() if name.startswith("loss_")}
    sum(losses.values()).backward()
    gradients = {n: p.grad.clone() for n, p in clip.named_parameters() if p.grad is not None}
    return losses, gradients


def differences(found, expected):
    """Per parameter: norm of the difference relative to that of the gradient; and of all."""
    assert found.keys() == expected.keys()
    total = sum(gradient.norm() ** 2 for gradient in expected.values()).sqrt()
    each, squares = {}, 0
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm()
        squares += difference**2
        # A gradient that is nothing but rounding noise (of keys' biases) has no digits to compare.
        each[name] = difference / (gradient.norm() if gradient.norm() > 1e-5 * total else total)
    return max(each.values()), squares.sqrt() / total


MODELS = ["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16", "RN-Ti"]


def model_and_batch(name):
    clip, batch = DenseCLIP.create(name), make_batch()
    if name == "RN-Ti":
        batch["images"] = torch.randn(5, 3, 32, 32)
    for texts in ("texts", "region_texts"):
        batch[texts] = batch[texts][:, : clip.context_length]
    return clip, batch


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_plain_ones(name, monkeypatch):
    clip, batch = model_and_batch(name)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # losses are float32 otherwise
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    losses, expected = gradients_of(clip.double(), batch)
    found_losses, found = gradients_of(clip, batch, chunk_sizes=CHUNKS)
    torch.testing.assert_close(found_losses, losses, atol=0, rtol=1e-12)
    assert differences(found, expected)[0] < 1e-12


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_crops_of_several_shapes(name, monkeypatch):
    """Each is embedded as if it were alone, in the order of the regions; chunks cross groups."""
    clip, batch = model_and_batch(name)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    clip = clip.double()
    shapes = [(32, 32), (48, 16), (16, 64), (16, 16)]
    crops = [
        torch.randn(3, *shapes[i], dtype=torch.float64) for i in (1, 0, 1, 2, 0, 1, 0, 0, 2, 1)
    ]
    batch["crops"] = ShapedCrops.of(crops, shapes)

    model = FineCLIPPretrainer(clip, fineclip())
    calls = []
    encode_image = clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda c: calls.append(len(c)) or encode_image(c))
    found = model.embed(**batch).crop
    # As many calls as shapes, also for the one that no crop has: processes call a model together.
    assert calls == [4, 4, 2, 0]
    for crop, row in zip(crops, found, strict=True):
        torch.testing.assert_close(row[None], clip.encode_image(crop[None]), atol=1e-12, rtol=0)

    losses, expected = gradients_of(clip, batch)
    for sizes in (CHUNKS, {"crops": 1}, "auto"):
        options = {"chunk_sizes": sizes, "memory_budget": 1e6}
        found_losses, gradients = gradients_of(clip, batch, **options)
        torch.testing.assert_close(found_losses, losses, atol=0, rtol=1e-12)
        assert differences(gradients, expected)[0] < 1e-12
    batch |= {name: batch[name][:0] for name in ("boxes", "region_image", "region_texts")}
    batch["crops"] = ShapedCrops.of(crops[:0], shapes)._replace(groups=[c[None][:0] for c in crops])
    assert model.embed(**batch).crop.shape == (0, clip.embed_dim)


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_float32_gradients_are_the_plain_ones_within_rounding(name):
    """Sums in another order: the plain step itself is 2e-6 off what float64 gives."""
    clip, batch = model_and_batch(name)
    losses, expected = gradients_of(clip, batch)
    found_losses, found = gradients_of(clip, batch, chunk_sizes=CHUNKS)
    torch.testing.assert_close(found_losses, losses, atol=0, rtol=1e-6)
    worst, whole = differences(found, expected)
    assert whole < 1e-6
    assert worst < 2e-6


def test_bfloat16_gradients_agree_within_its_rounding():
    clip, batch = DenseCLIP.create("EVA02-Ti-16"), make_batch()
    exact = gradients_of(clip, batch)[1]
    with torch.autocast("cpu", torch.bfloat16):
        plain = gradients_of(clip, batch)[1]
        chunked = gradients_of(clip, batch, chunk_sizes=CHUNKS)[1]

    def distance(one, other):
        return sum(((one[n] - other[n]) ** 2).sum() for n in exact).sqrt()

    # Chunked and plain step are as near to each other as rounding lets either be to the truth.
    assert 0 < distance(chunked, plain) < distance(plain, exact)


def test_other_embeddings_are_chunked_too():
    clip, batch = DenseCLIP.create("ViT-Ti-16"), make_batch()
    batch |= {
        "global_views": torch.randn(5, 2, 3, 32, 32),
        "local_views": torch.randn(5, 3, 3, 16, 16),
    }

    def objectives():
        views = LocalToGlobalDistillation(num_prototypes=8)
        return [FILIP(), RegionContrastive(), ViewContrastive(), views]

    def run(chunk_sizes):
        torch.manual_seed(5)
        head = {"num_prototypes": 8, "hidden_dim": 16, "bottleneck_dim": 8}
        model = FineCLIPPretrainer(
            clip, objectives(), trainable=ALL, chunk_sizes=chunk_sizes, prototype_head=head
        ).train()
        model.start_ema_teacher()
        model.zero_grad()
        outputs = model(**batch, mode="loss")
        sum(v for n, v in outputs.items() if n.startswith("loss_")).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = run(None)
    assert any(name.startswith("prototype_head") for name in expected)
    assert differences(run(CHUNKS), expected)[1] < 1e-6


def test_random_state_is_restored():
    """With dropout, a chunk that drew anew in the backward pass would differentiate another net."""
    clip = DenseCLIP.create("ViT-Ti-16")
    clip.clip.visual.ln_pre = nn.Sequential(clip.clip.visual.ln_pre, nn.Dropout(0.5))
    batch = make_batch()
    encode = nn.Linear(4, 4)
    rows = torch.randn(6, 4)
    drawn = []

    def function(part):
        noise = torch.rand(len(part), 1)
        drawn.append(noise)
        return ((encode(part) * noise).exp(),)

    job = EncodeJob("rows", ("rows",), function, 6, lambda i, j: (rows[i:j],))
    job.run(Chunks(2))["rows"].sum().backward()
    assert len(drawn) == 6
    assert all(torch.equal(drawn[i], drawn[5 - i]) for i in range(3))  # last chunk first
    assert not torch.equal(drawn[0], drawn[1])
    first = gradients_of(clip, batch, chunk_sizes=CHUNKS)[1]
    torch.testing.assert_close(gradients_of(clip, batch, chunk_sizes=CHUNKS)[1], first)


def test_accumulated_gradients_are_the_plain_ones():
    clip = DenseCLIP.create("ViT-Ti-16")
    batches = [make_batch(), make_batch((1, 2, 0, 0, 0))]
    start = {name: value.clone() for name, value in clip.state_dict().items()}
    results = []
    for chunk_sizes in (None, CHUNKS):
        clip.load_state_dict(start)
        model = FineCLIPPretrainer(clip, fineclip(), trainable=ALL, chunk_sizes=chunk_sizes)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        wrapper = OptimWrapper(optimizer, accumulative_counts=2)
        wrapper.initialize_count_status(model, 0, 2)
        for batch in batches:
            model.train_step(batch, wrapper)
        results.append({n: p.detach() - start[n] for n, p in clip.named_parameters()})
    moved = {n: value for n, value in results[0].items() if value.any()}
    assert len(moved) > 20
    assert differences({n: results[1][n] for n in moved}, moved)[1] < 1e-5


def kept_at_most(clip, batch, chunk_sizes, **kwargs):
    """The most bytes of activations alive at a time, counted where autograd saves them."""
    alive = most = 0

    class Held:
        def __init__(self, tensor):
            nonlocal alive, most
            self.tensor, self.bytes = tensor, tensor.nbytes
            alive += self.bytes
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        gradients_of(clip, batch, chunk_sizes=chunk_sizes, **kwargs)
    return most


def test_only_a_chunk_is_kept():
    clip, batch = DenseCLIP.create("EVA02-Ti-16"), make_batch((4,) * 5)
    plain = kept_at_most(clip, batch, None)
    chunked = kept_at_most(clip, batch, {"images": 1, "crops": 2, "texts": 2})
    assert chunked < plain / 4


def test_fixed_target_needs_no_graph():
    clip, batch = DenseCLIP.create("EVA02-Ti-16"), make_batch((4,) * 5)

    def distillation(detach):
        return lambda: [SelfDistillation(detach_teacher=detach)]

    both = kept_at_most(clip, batch, None, objectives=distillation(False))
    fixed = kept_at_most(clip, batch, None, objectives=distillation(True))
    assert fixed < both / 2  # 20 crops beside 5 images
    # A crop that another objective learns from keeps its graph.
    model = FineCLIPPretrainer(clip, [SelfDistillation(detach_teacher=True), SelfDistillation()])
    assert model.embed(**batch).crop.requires_grad


def test_compiled_blocks_take_the_same_step():
    """Graphs and their derivatives as for any backend, without the C++ compiler's minutes."""
    clip, batch = DenseCLIP.create("EVA02-Ti-16"), make_batch()
    expected = gradients_of(clip, batch)[1]
    # In chunks, whose recomputation is compiled as well; of one size, as each is compiled for.
    chunks = dict.fromkeys(CHUNKS, 1)
    options = {"compile_blocks": {"backend": "aot_eager"}, "chunk_sizes": chunks}
    found = gradients_of(clip, batch, **options)[1]
    assert all(block._compiled_call_impl for block in clip.trunk.stages)
    assert differences(found, expected)[1] < 1e-6


def test_each_text_is_encoded_once(monkeypatch):
    clip, batch = DenseCLIP.create("ViT-Ti-16"), make_batch()
    seen = []
    encode_text = clip.encode_text
    monkeypatch.setattr(clip, "encode_text", lambda t: seen.append(len(t)) or encode_text(t))
    embeddings = FineCLIPPretrainer(clip, fineclip()).embed(**batch)
    assert seen == [14]  # 5 captions and 10 region captions, two of which are one
    torch.testing.assert_close(embeddings.text, encode_text(batch["texts"]))
    torch.testing.assert_close(embeddings.region_text, encode_text(batch["region_texts"]))


def job_of(width, count, name="rows"):
    layer = nn.Linear(width, width)
    rows = torch.randn(count, width)
    return EncodeJob(
        name, (name,), lambda part: (layer(part).exp(),), count, lambda i, j: (rows[i:j],)
    )


def test_saved_bytes_counts_activations_alone():
    layer = nn.Linear(8, 8)
    rows = torch.randn(3, 8)
    assert saved_bytes(layer, rows) == 0  # the input and the weight are there anyway
    assert saved_bytes(lambda x: layer(x).exp(), rows) == rows.nbytes
    state = torch.get_rng_state()
    saved_bytes(nn.Dropout(0.5), rows)
    assert torch.equal(torch.get_rng_state(), state)


def test_auto_keeps_what_fits_and_chunks_the_rest():
    small, large = job_of(4, 8, "small"), job_of(64, 32, "large")
    # 8 rows of 16 bytes and 32 rows of 256 bytes are kept.
    fitting = 8 * 16 + 32 * 256
    assert ChunkPlanner("auto", fitting).plan([large, small]) == [WHOLE, WHOLE]
    # What does not fit is recomputed, in chunks no larger than that.
    assert ChunkPlanner("auto", fitting - 1).plan([large, small]) == [Chunks(1, 30), WHOLE]
    assert ChunkPlanner("auto", fitting - 3 * 256).plan([large, small]) == [Chunks(3, 26), WHOLE]
    assert ChunkPlanner("auto", 8 * 16 + 10 * 256).plan([large, small]) == [Chunks(2, 8), WHOLE]
    # Three quarters of it for rows that are kept, the rest for a chunk.
    assert ChunkPlanner("auto", 200).plan([large, small]) == [Chunks(1), WHOLE]
    assert ChunkPlanner("auto", 100).plan([large, small]) == [Chunks(1), Chunks(1, 4)]
    with torch.no_grad():
        assert ChunkPlanner("auto", 1).plan([large, small]) == [WHOLE, WHOLE]
    assert ChunkPlanner({"large": 3}).plan([large, small]) == [Chunks(3), WHOLE]
    assert ChunkPlanner("auto").plan([large, small]) == [WHOLE, WHOLE]  # half of what is free
    assert free_memory(torch.device("cpu")) > 1 << 20


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_auto_recomputes_little_more_than_does_not_fit(share):
    """Time rises smoothly: kept rows and the largest chunk fill the budget."""
    jobs = [job_of(128, 40, "large"), job_of(32, 30, "middle"), job_of(16, 20, "small")]
    rows = {"large": 512, "middle": 128, "small": 64}  # bytes
    whole = sum(rows[job.name] * job.count for job in jobs)
    budget = share * whole
    kept = recomputed = largest = 0
    for job, chunks in zip(jobs, ChunkPlanner("auto", budget).plan(jobs), strict=True):
        for start, end, again in chunks.bounds(job.count):
            memory = rows[job.name] * (end - start)
            kept += 0 if again else memory
            recomputed += memory if again else 0
            largest = max(largest, memory if again else 0)
    assert kept + largest <= budget
    assert kept + recomputed == whole
    missing = whole - budget
    assert recomputed <= missing + min(missing, 0.25 * budget) + 2 * max(rows.values())


def test_rows_that_are_kept_and_rows_that_are_recomputed():
    times = []
    weight = torch.ones(3, requires_grad=True)
    rows = torch.arange(18.0).view(6, 3)

    def function(part):
        times.append(part[:, 0].tolist())
        return ((part * weight).square(),)

    job = EncodeJob("rows", ("rows",), function, 6, lambda i, j: (rows[i:j],))
    found = job.run(Chunks(size=2, kept=3))["rows"]
    assert torch.equal(found, rows.square())
    assert times == [[0, 3, 6], [9, 12], [15]]
    found.sum().backward()
    assert times[3:] == [[15], [9, 12]]
    assert torch.equal(weight.grad, 2 * rows.square().sum(0))


def test_auto_trains_within_its_budget():
    clip, batch = DenseCLIP.create("EVA02-Ti-16"), make_batch((4,) * 5)
    budget = 2_000_000
    expected = gradients_of(clip, batch)[1]
    found = gradients_of(clip, batch, chunk_sizes="auto", memory_budget=budget)[1]
    assert differences(found, expected)[1] < 1e-6
    plain = kept_at_most(clip, batch, None)
    assert plain > 2 * budget


@pytest.mark.parametrize(
    ("sizes", "budget", "message"),
    [
        ({"crops": 0}, None, "crops must be a number of rows of at least 1"),
        ("large", None, 'must be None, "auto" or a dict'),
        ("auto", 0, "memory_budget must be a number of bytes"),
    ],
)
def test_bad_settings_are_refused(sizes, budget, message):
    with pytest.raises(ValueError, match=message):
        ChunkPlanner(sizes, budget)
