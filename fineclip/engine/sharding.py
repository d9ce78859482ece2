"""Fully sharded training: parameters, gradients and optimizer state divided over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import BaseAveragedModel, BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from fineclip.devices import default_device
from fineclip.engine.continuing import ContinuingRunner
from fineclip.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """Divides a model over all processes (FSDP; Zhao et al., VLDB 2023) instead of copying it.

    Each block of a transformer or ResNet is gathered when it is called and freed again; the rest
    is gathered for the whole step. The last of the blocks belongs to that rest, as dense features
    are computed from its parts. As gathering takes all processes, each has to call its blocks
    equally often: chunked encoding does not go with it.

    mmengine's ``MMFullyShardedDataParallel`` and ``FSDPStrategy`` build on torch's first FSDP,
    which refuses to run without an accelerator, and its ``Runner`` saves only rank 0's parts. This
    builds on torch's ``fully_shard`` and runs on CPUs as well.

    Checkpoints of :class:`ShardedRunner` do not show any of this: they hold the whole model and
    optimizer. A run may go on with another number of processes, or without sharding.

    Gradients are averaged over processes, as by DistributedDataParallel.

    Args:
        module: The model; its values on rank 0 are taken over by all.

    Attributes:
        module: The same model, whose parameters are sharded now.
        scalars: Names of its parameters without dimensions. ``fully_shard`` takes none, so they
            have one dimension of size 1 meanwhile, but in state dicts.

    Raises:
        ValueError: Without distributed processes.
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        if not dist.is_initialized():
            raise ValueError(
                "FullyShardedModel divides a model over processes: start with torchrun and "
                "--launcher pytorch"
            )
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)
        self.scalars = frozenset(_add_dimension_to_scalars(module))
        mesh = init_device_mesh(default_device().type, (dist.get_world_size(),))
        for block in list(repeated_blocks(module)):
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        for averaged in module.modules():
            if isinstance(averaged, BaseAveragedModel):  # it keeps references to what it averages
                averaged.avg_parameters = dict(averaged.module.named_parameters())
        module.register_load_state_dict_pre_hook(self._shard_state_dict)
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """The model's own step."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> Any:
        """The model's own step."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """The model's own step."""
        return self.module.test_step(data)

    def whole_state_dict(self) -> dict[str, Tensor]:
        """The model's state dict without sharding, on the CPU of rank 0; called on all ranks."""
        _reshard(self.module)
        return {name: self._whole(v, name) for name, v in self.module.state_dict().items()}

    def whole_optimizer_state(self, optimizer: Optimizer) -> dict[int, dict[str, Any]]:
        """The ``state`` of the optimizer's state dict likewise; called on all ranks."""
        return self._convert(optimizer, optimizer.state_dict()["state"], self._whole)

    def load_whole_optimizer_states(self, optimizer: Optimizer) -> None:
        """Makes the optimizer load state dicts of whole tensors."""

        def shard(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
            return {
                **state_dict,
                "state": self._convert(optimizer, state_dict["state"], self._shard),
            }

        optimizer.register_load_state_dict_pre_hook(shard)

    def _convert(
        self, optimizer: Optimizer, states: dict[int, dict[str, Any]], change: Callable[..., Any]
    ) -> dict[int, dict[str, Any]]:
        named = {id(p): (name, p) for name, p in self.module.named_parameters()}
        parameters = [named[id(p)] for group in optimizer.param_groups for p in group["params"]]
        return {
            index: {
                # Steps are counted in tensors without dimensions, as a scalar's averages are.
                key: change(value, *parameters[index]) if key != "step" else value
                for key, value in state.items()
            }
            for index, state in states.items()
        }

    def _shard_state_dict(
        self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        _reshard(module)
        for name, parameter in module.named_parameters():
            if prefix + name in state_dict:
                value = state_dict[prefix + name]
                state_dict[prefix + name] = self._shard(value, name, cast(DTensor, parameter))

    def _whole(self, value: Any, name: str, parameter: Tensor | None = None) -> Any:
        if not isinstance(value, DTensor):
            return value
        value = value.full_tensor()
        if dist.get_rank():
            return None  # let go at once: the others need no copy
        return value.reshape(() if name in self.scalars else value.shape).cpu()

    def _shard(self, value: Any, name: str, parameter: DTensor) -> Any:
        """This process's part of a whole tensor; one of another shape is left for the loader."""
        if not isinstance(value, Tensor):
            return value
        if name in self.scalars and value.ndim == 0:
            value = value.reshape(1)
        if value.shape != parameter.shape:
            return value
        value = value.to(device=parameter.device, dtype=parameter.dtype)
        return distribute_tensor(
            value, parameter.device_mesh, parameter.placements, src_data_rank=None
        )


class ShardedRunner(ContinuingRunner):
    """The runner for a :class:`FullyShardedModel`: its checkpoints hold whole tensors."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Builds it so that it can be resumed."""
        built = super().build_optim_wrapper(optim_wrapper)
        self.model.load_whole_optimizer_states(built.optimizer)
        return built

    def _init_model_weights(self) -> None:
        """The wrapper has spread rank 0's already."""

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Gathers on all ranks, as every one holds a part; then rank 0 writes."""
        self.whole_states = (
            self.model.whole_state_dict(),
            self.model.whole_optimizer_state(self.optim_wrapper.optimizer),
        )
        super().save_checkpoint(*args, **kwargs)
        del self.whole_states


class WholeCheckpointHook(Hook):
    """What :class:`ShardedRunner` has to do between others; :func:`build_runner` adds it."""

    priority = "VERY_HIGH"

    def before_save_checkpoint(self, runner: ShardedRunner, checkpoint: dict[str, Any]) -> None:
        """Puts whole tensors in the place of rank 0's parts."""
        checkpoint["state_dict"], states = runner.whole_states
        if "optimizer" in checkpoint:
            checkpoint["optimizer"]["state"] = states

    def before_val(self, runner: Runner) -> None:
        """Metrics call the towers directly, past the model that would gather what is no block."""
        runner.model.module.unshard()

    def after_val(self, runner: Runner) -> None:
        """Frees what :meth:`before_val` gathered."""
        _reshard(runner.model.module)


def repeated_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """All but the last of each row of composite modules of one class, as towers are made of."""
    for parent in model.modules():
        if isinstance(parent, nn.ModuleList | nn.Sequential):
            composite = [child for child in parent if next(child.children(), None) is not None]
            for block, following in pairwise(composite):
                if type(block) is type(following):
                    yield block


def _add_dimension_to_scalars(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                value = nn.Parameter(parameter.detach().reshape(1), parameter.requires_grad)
                setattr(module, name, value)
                yield f"{prefix}.{name}" if prefix else name


def _reshard(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
