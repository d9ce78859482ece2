"""The proposal head: recorded outputs, layouts, fractional strides."""

import pytest
import torch
from fvit_reference import behind, settings, tensors
from mmengine.config import ConfigDict

from detection.models import FViTRPNHead

CASES = settings("rpn")["cases"]


def make(case, strides=(4, 8, 16)):
    recorded = settings("rpn")
    chosen = CASES[case]
    return FViTRPNHead(
        recorded["in_channels"],
        num_convs=chosen["num_convs"],
        norm_cfg={"type": "BN"} if chosen["norm"] else None,
        feat_channels=recorded["feat_channels"],
        anchor_generator={
            "type": "AnchorGenerator",
            "scales": [8],
            "ratios": [0.5, 1.0, 2.0],
            "strides": list(strides),
        },
        test_cfg=ConfigDict(
            nms_pre=100, max_per_img=20, nms={"type": "nms", "iou_threshold": 0.7}, min_bbox_size=0
        ),
    )


@pytest.mark.filterwarnings("ignore:norm_cfg is not used")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_are_the_recorded_ones(case, mode):
    stored = behind(tensors("rpn"), f"{case}.")
    head = make(case)
    head.load_state_dict(behind(stored, "param.", "buffer."))  # strict: the released names
    head.train(mode == "train")
    levels = tuple(stored[f"input.level{index}"] for index in range(3))
    scores, deltas = head(levels)
    for index in range(3):
        for found, name in ((scores, "cls"), (deltas, "reg")):
            expected = stored[f"output.{mode}.{name}{index}"]
            torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=1e-4)
    if mode == "train":
        state = head.state_dict()
        for key, expected in behind(stored, "updated_buffer.").items():
            torch.testing.assert_close(state[key], expected, atol=1e-5, rtol=1e-5)


def test_a_single_convolution_ignores_the_norm_and_says_so():
    with pytest.warns(UserWarning, match="norm_cfg is not used by a single convolution"):
        head = make("one_conv")
    assert {"rpn_conv.weight", "rpn_conv.bias"} <= head.state_dict().keys()


def test_fractional_strides_of_a_patch_of_14_pixels():
    head = make("two_convs_norm", strides=(3.5, 7, 14))
    priors = head.prior_generator.grid_priors([(4, 6), (2, 3), (1, 2)], device="cpu")
    # ratio 1 is the second of three: a square of 8 strides around a multiple of the stride
    finest = priors[0].view(4, 6, 3, 4)[:, :, 1]
    torch.testing.assert_close(finest[2, 5], torch.tensor([3.5, -7.0, 31.5, 21.0]))
    assert torch.equal(priors[1][1], torch.tensor([-28.0, -28.0, 28.0, 28.0]))
    head.eval()
    levels = [torch.rand(1, head.in_channels, h, w) for h, w in ((4, 6), (2, 3), (1, 2))]
    outputs = head(levels)
    found = head.predict_by_feat(*outputs, batch_img_metas=[{"img_shape": (14, 21)}])
    assert len(found[0].bboxes)
    assert found[0].bboxes[:, 2].max() <= 21
