"""What a detector does so that several processes train as one: draws by image, statistics.

That losses and weights are equal is tests/test_two_process_trainings.py's.
"""

import copy

import pytest
import torch
from fvit_reference import detector_config
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from detection.models import detector
from detection.models.samplers import seed_sampling


@pytest.fixture
def run(monkeypatch):
    """The seed and iteration of a run, as mmengine's runner tells them."""
    hub = MessageHub.get_instance("test_processes")
    monkeypatch.setattr(MessageHub, "get_current_instance", lambda: hub)
    hub.update_info("seed", 0)
    return hub


def sampled(*image_ids):
    """The boxes that are drawn of each image of a batch: 4 of 20 near an object, 4 of 40 others."""
    sampler = TASK_UTILS.build({"type": "ImageSeededSampler", "num": 8, "pos_fraction": 0.5})
    batch = []
    for image_id in image_ids:
        sample = DetDataSample(metainfo={"img_id": image_id})
        sample.gt_instances = InstanceData(bboxes=torch.rand(1, 4), labels=torch.tensor([0]))
        batch.append(sample)
    seed_sampling(batch)
    found = []
    for sample in copy.deepcopy(batch):  # as the RPN does
        assigned = torch.tensor([1] * 20 + [0] * 40)
        result = sampler.sample(
            AssignResult(1, assigned, torch.zeros(60), torch.zeros(60, dtype=torch.long)),
            InstanceData(priors=torch.rand(60, 4)),
            sample.gt_instances,
        )
        found.append([*result.pos_inds.tolist(), *result.neg_inds.tolist()])
    return found


def test_draws_depend_on_run_iteration_and_image_alone(run):
    run.update_info("iter", 3)
    first, second = sampled(7, 9)
    torch.manual_seed(1)
    assert sampled(9) == [second] and sampled(7) == [first]
    assert len(first) == 8 and first != second
    run.update_info("iter", 4)
    assert sampled(7) != [first]
    run.update_info("iter", 3)
    run.update_info("seed", 1)
    assert sampled(7) != [first]


@pytest.mark.parametrize(
    ("processes", "norm_eval", "synchronised", "warns"),
    [
        (2, False, False, True),
        (1, False, False, False),
        (2, True, False, False),
        (2, False, True, False),
    ],
)
def test_statistics_of_own_images_warn(monkeypatch, processes, norm_eval, synchronised, warns):
    said = []
    monkeypatch.setattr(detector, "world_size", lambda: processes)
    monkeypatch.setattr(detector, "print_log", lambda message, *_: said.append(message))
    settings = Config({"model": {**detector_config("detector_box"), "norm_eval": norm_eval}}).model
    model = MODELS.build(settings)
    if synchronised:
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.eval()
    assert said == []
    model.train().train()
    assert len(said) == warns
    assert all("sync_bn=torch" in message and "\n" not in message for message in said)
    norms = [m for m in model.neck.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)]
    assert norms and all(norm.training is not norm_eval for norm in norms)
