"""The cost-aggregation network: recorded cases, fast paths against plain ones, edges."""

import pytest
import torch
import torch.nn.functional as F
from catseg_reference import assert_gradient, behind, make_aggregator, sampled, settings
from recorded import assert_recorded
from torch import nn

from segmentation.modeling.aggregator import DROPPED_LOGIT, CostAggregator
from segmentation.modeling.class_attention import ClassAggregation, ClassAttention
from segmentation.modeling.loss import class_loss
from segmentation.modeling.window_attention import WindowAttention, window_mask, window_of

CASES = sorted(settings("catseg_aggregator"))
SMALL = {
    "text_guidance_dim": 12,
    "appearance_guidance_dim": 12,
    "text_guidance_proj_dim": 8,
    "appearance_guidance_proj_dim": 8,
    "decoder_dims": (16, 16),
    "decoder_guidance_dims": (10, 6),
    "decoder_guidance_proj_dims": (8, 4),
    "num_heads": 2,
    "hidden_dim": 16,
    "window_size": 3,
    "pad_length": 6,
}


def inputs_of(recorded):
    given = behind(recorded, "input.")
    return {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in given.items()}


def run(network, given):
    guidance = [given[f"guidance{i}"] for i in range(3)]
    return network(given["image_features"], given["text_features"], guidance)


def random_inputs(classes, grid, images=2, prompts=1):
    height, width = grid
    return {
        "image_features": torch.randn(images, 12, height, width),
        "text_features": torch.randn(classes, prompts, 12),
        "guidance0": torch.randn(images, 12, height, width),
        "guidance1": torch.randn(images, 10, 2 * height, 2 * width),
        "guidance2": torch.randn(images, 6, 4 * height, 4 * width),
    }


@pytest.mark.parametrize("case", CASES)
def test_recorded_logits_loss_and_gradients(case):
    network, recorded, entry = make_aggregator(case)
    given = inputs_of(recorded)
    logits = run(network, given)
    assert_recorded(logits, recorded["output.logits"], 5e-5)
    if "output.kept_classes" in recorded:
        kept = (logits != DROPPED_LOGIT).flatten(2).any(dim=2)
        assert torch.equal(kept, recorded["output.kept_classes"])
    resized = F.interpolate(logits, size=given["labels"].shape[1:], mode="bilinear")
    loss = class_loss(resized, given["labels"].long(), ignore_value=255)
    assert loss.item() == pytest.approx(entry["loss"], rel=1e-5)
    loss.backward()
    parameters = dict(network.named_parameters())
    for name, gradient in behind(recorded, "grad.").items():
        summary = entry["gradients"][f"grad.{name}"]
        assert_gradient(name, parameters[name].grad, gradient, summary, 128)
    for name, gradient in behind(recorded, "grad_input.").items():
        summary = entry["gradients"][f"grad_input.{name}"]
        assert_gradient(name, given[name].grad, gradient, summary, 128)


@pytest.mark.parametrize("case", ["linear_pad", "full_pad"])
def test_recorded_intermediates(case):
    network, recorded, _ = make_aggregator(case)
    seen = {}

    def keep(name, arrange):
        def hook(module, inputs, output):
            seen[name] = arrange(output)

        return hook

    network.conv1.register_forward_hook(keep("cost_embedding", lambda x: x))
    network.guidance_projection.register_forward_hook(keep("appearance_guidance", lambda x: x))
    network.decoder1.register_forward_hook(keep("decoder1", lambda x: x))
    for i, layer in enumerate(network.layers):
        volume = {"arrange": lambda x: x.permute(0, 4, 1, 2, 3)}
        layer.swin_block.block_1.register_forward_hook(
            keep(f"layer{i}.window_block", lambda x: x.flatten(0, 1).flatten(1, 2))
        )
        layer.swin_block.register_forward_hook(keep(f"layer{i}.spatial", **volume))
        layer.register_forward_hook(keep(f"layer{i}.class", **volume))
    run(network, inputs_of(recorded))
    assert len(seen) == 9
    for name, value in seen.items():
        wanted = recorded[f"mid.{name}"]
        torch.testing.assert_close(sampled(value, 1024), wanted, atol=5e-5, rtol=0, msg=name)


@pytest.mark.parametrize("map_chunk", [1, 5, 16])
def test_pieces_without_gradient_give_the_whole(map_chunk):
    torch.manual_seed(3)
    network = CostAggregator(**SMALL, map_chunk=map_chunk)
    given = random_inputs(5, (4, 7))
    whole = run(network, given)
    with torch.no_grad():
        pieces = run(network, given)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)


def test_text_may_be_shared_or_repeated_by_the_caller():
    network = CostAggregator(**SMALL)
    for classes in (5, 9):
        given = random_inputs(classes, (4, 4))
        shared = run(network, given)
        given["text_features"] = given["text_features"].expand(2, -1, -1, -1)
        torch.testing.assert_close(run(network, given), shared, atol=1e-6, rtol=0)


def test_classes_beyond_the_budget_are_chosen_by_image():
    network = CostAggregator(**SMALL)
    given = random_inputs(9, (4, 4))
    together = run(network, given)
    for image in range(2):
        alone = run(
            network,
            {k: v if k == "text_features" else v[image : image + 1] for k, v in given.items()},
        )
        torch.testing.assert_close(together[image : image + 1], alone, atol=1e-5, rtol=0)
    dropped = (together == DROPPED_LOGIT).flatten(2).all(dim=2)
    assert dropped.sum(dim=1).tolist() == [3, 3]


@pytest.mark.parametrize("attention", ["linear", "full"])
def test_one_key_counted_often_is_that_many_padding_tokens(attention):
    module = ClassAttention(8, 4, num_heads=2, attention=attention)
    tokens, guidance = torch.randn(2, 3, 5, 8), torch.randn(1, 3, 4)
    token, token_guidance = torch.randn(8), torch.randn(4)
    fast = module(tokens, guidance, (token, token_guidance), copies=7)
    longer = torch.cat([tokens, token.expand(2, 7, 5, 8)], dim=1)
    plain = module(longer, torch.cat([guidance, token_guidance.expand(1, 7, 4)], dim=1))[:, :3]
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=0)


def test_linear_attention_by_its_formula():
    module = ClassAttention(6, 2, num_heads=3)
    tokens, guidance = torch.randn(1, 4, 2, 6), torch.randn(1, 4, 2)
    joined = torch.cat([tokens, guidance[:, :, None].expand(1, 4, 2, 2)], dim=-1)
    q, k, v = module.q(joined), module.k(joined), module.v(tokens)
    want = torch.zeros_like(tokens)
    for n in range(2):
        for head in range(3):
            part = slice(2 * head, 2 * head + 2)
            fq, fk = F.elu(q[0, :, n, part]) + 1, F.elu(k[0, :, n, part]) + 1
            weights = fq @ fk.T
            want[0, :, n, part] = weights @ v[0, :, n, part] / weights.sum(1, keepdim=True)
    torch.testing.assert_close(module(tokens, guidance), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("grid", "shifted"), [((5, 7), False), ((5, 7), True), ((6, 6), True)])
def test_windows_on_any_grid_against_a_loop_over_pixels(grid, shifted):
    height, width = grid
    attention = WindowAttention(8, 4, num_heads=2)
    maps, guidance = torch.randn(1, 2, height, width, 8), torch.randn(1, height, width, 4)
    window, shift = window_of(grid, 3, shifted)
    assert (window, shift) == (3, int(shifted))
    mask = window_mask(grid, window, shift, maps.device, maps.dtype)
    found = attention(maps, attention.guidance_term(guidance), window, shift, mask)

    joined = torch.cat([maps, guidance[:, None].expand(1, 2, *grid, 4)], dim=-1)
    q, k, v = attention.q(joined), attention.k(joined), attention.v(maps)
    padded = [-(-side // window) * window for side in grid]
    pixels = [(y, x) for y in range(height) for x in range(width)]
    rolled = {p: [(p[i] - shift) % padded[i] for i in (0, 1)] for p in pixels}
    window_id = {p: [c // window for c in rolled[p]] for p in pixels}

    def wraps(p):
        return [p[i] < shift for i in (0, 1)]

    want = torch.zeros_like(maps)
    for p in pixels:
        # Neighbours across the border of the map have a logit of -100: as good as absent.
        near = [o for o in pixels if window_id[o] == window_id[p] and wraps(o) == wraps(p)]
        rows, columns = [o[0] for o in near], [o[1] for o in near]
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            keys, values = k[0, :, rows, columns, part], v[0, :, rows, columns, part]
            logits = torch.einsum("tc,tnc->tn", q[0, :, p[0], p[1], part], keys) / 2
            mixed = torch.einsum("tn,tnc->tc", logits.softmax(-1), values)
            want[0, :, p[0], p[1], part] = mixed
    torch.testing.assert_close(found, attention.proj(want), atol=1e-5, rtol=0)


def test_a_window_that_covers_the_map_neither_shifts_nor_masks():
    assert window_of((6, 9), 6, True) == (6, 0)
    assert window_of((7, 9), 6, True) == (6, 3)
    assert window_mask((6, 6), 6, 0, torch.device("cpu"), torch.float32) is None


@pytest.mark.parametrize("grid", [(2, 2), (5, 7), (9, 4)])
def test_any_grid(grid):
    logits = run(CostAggregator(**SMALL), random_inputs(4, grid))
    assert logits.shape == (2, 4, 4 * grid[0], 4 * grid[1])
    assert logits.isfinite().all()


def test_the_pooled_map_is_counted_twice_unless_asked_otherwise():
    for doubled in (True, False):
        module = ClassAggregation(8, 4, num_heads=2, pad_length=0, doubled_residual=doubled)
        with torch.no_grad():
            for layer in (module.attention.v, module.MLP[2]):  # nothing is changed by attention
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        volume = torch.ones(1, 3, 4, 4, 8)
        out = module(volume, torch.randn(1, 3, 4), (2, 2))
        torch.testing.assert_close(out, volume * (2 if doubled else 1))


def test_every_trained_parameter_gets_a_gradient_at_any_number_of_classes():
    network = CostAggregator(**SMALL)
    for classes in (3, 6, 9):
        network.zero_grad(set_to_none=True)
        run(network, random_inputs(classes, (4, 4))).sum().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_stored_masks_are_tolerated():
    network = CostAggregator(**SMALL)
    state = network.state_dict()
    assert not any("attn_mask" in key for key in state)
    state["layers.0.swin_block.block_2.attn_mask"] = torch.zeros(4, 144, 144)
    network.load_state_dict(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_type": "quadratic"}, "known: linear, full"),
        ({"num_heads": 3}, "among 3 heads"),
        ({"decoder_dims": (16, 20)}, "no multiple of 16"),
        ({"decoder_guidance_proj_dims": (16, 4)}, "leave no room"),
        ({"pooling_size": (0, 1)}, "pooling_size"),
        ({"pad_length": -1}, "pad_length"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        CostAggregator(**{**SMALL, **changes})


def test_inputs_that_do_not_go_together():
    network = CostAggregator(**SMALL)
    for change, message in [
        ({"text_features": torch.randn(4, 2, 12)}, "made for 1 prompts"),
        ({"text_features": torch.randn(4, 1, 13)}, "text features must be"),
        ({"text_features": torch.randn(0, 1, 12)}, "at least one class"),
        ({"guidance1": torch.randn(2, 10, 4, 4)}, "sizes"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(network, {**random_inputs(4, (4, 4)), **change})
