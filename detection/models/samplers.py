"""Random choice of anchors and proposals that depends on the image, not on the process."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import TASK_UTILS
from mmdet.structures import SampleList
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import Tensor

_SEED = "sampling_seed"


def seed_sampling(batch_data_samples: SampleList) -> None:
    """Gives each image's instances the seed of :class:`ImageSeededSampler`.

    It is made of the run's seed, the iteration and the image's ``img_id``: whichever process an
    image is in, and whether the run was resumed, its draws are the same.

    Args:
        batch_data_samples: Changed in place.
    """
    run = MessageHub.get_current_instance()
    for sample in batch_data_samples:
        parts = (run.get_info("seed"), run.get_info("iter"), sample.metainfo.get("img_id"))
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
        sample.gt_instances.set_metainfo({_SEED: int.from_bytes(digest, "big")})


@TASK_UTILS.register_module()
class ImageSeededSampler(RandomSampler):
    """mmdet's random sampler, which draws by the seed of the image.

    Without one (see :func:`seed_sampling`) it draws as mmdet's does, from the global generator.
    """

    _generator: torch.Generator | None = None

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        **kwargs: Any,
    ) -> SamplingResult:
        """Chooses positive and negative boxes of one image.

        Args:
            assign_result: What each box was assigned to.
            pred_instances: The boxes, ``priors``.
            gt_instances: The image's annotated instances, with the seed in their metainfo.
            **kwargs: Not used.
        """
        seed = gt_instances.metainfo.get(_SEED)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        return super().sample(assign_result, pred_instances, gt_instances, **kwargs)

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """(num,) different elements of (n,) ones."""
        order = torch.randperm(len(gallery), generator=self._generator)
        return gallery[order[:num].to(gallery.device)]
