"""mmengine loops that evaluate several tasks, each with its own data and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader, Dataset

from fineclip.evaluation.runner import Amp, evaluate, join_results
from fineclip.registry import LOOPS


class TaskLoaders:
    """Data loaders by task, looking like one loader to mmengine's hooks.

    Hooks ask a loop's loader for its length alone: the number of batches of all tasks.

    Args:
        loaders: Data loader by task name.
    """

    def __init__(self, loaders: Mapping[str, DataLoader]) -> None:
        self.loaders = dict(loaders)

    def __len__(self) -> int:
        return sum(len(loader) for loader in self.loaders.values())

    @property
    def dataset(self) -> Dataset:
        """The data set of the first task."""
        return next(iter(self.loaders.values())).dataset


class _MultiTaskLoop(BaseLoop):
    """Runs every task in turn and reports the joined results once."""

    stage: str

    def __init__(
        self,
        runner: Runner,
        dataloader: Mapping[str, DataLoader | dict[str, Any]],
        evaluator: Mapping[str, Evaluator | dict[str, Any] | list[Any]],
        amp: Amp | None = None,
    ) -> None:
        for name, value in (("dataloader", dataloader), ("evaluator", evaluator)):
            if not isinstance(value, Mapping):
                raise TypeError(
                    f"{self.stage}_{name} must be a dict by task name such as "
                    f"dict(box=..., retrieval=...), got {type(value).__name__}"
                )
        if "dataset" in dataloader:
            raise ValueError(
                f"{self.stage}_dataloader is one data loader; {type(self).__name__} expects one "
                "per task, such as dict(box=dict(dataset=...), retrieval=dict(dataset=...))"
            )
        if not dataloader or set(dataloader) != set(evaluator):
            raise ValueError(
                f"{self.stage}_dataloader and {self.stage}_evaluator must name the same tasks, "
                f"got {sorted(dataloader)} and {sorted(evaluator)}"
            )
        different = runner._randomness_cfg.get("diff_rank_seed", False)
        loaders = {
            task: runner.build_dataloader(config, seed=runner.seed, diff_rank_seed=different)
            for task, config in dataloader.items()
        }
        super().__init__(runner, TaskLoaders(loaders))
        self.evaluators = {task: runner.build_evaluator(evaluator[task]) for task in loaders}
        self.amp = amp

    @property
    def evaluator(self) -> dict[str, Evaluator]:
        """Evaluators by task name (mmengine's runners ask for ``evaluator``)."""
        return self.evaluators

    def run(self) -> dict[str, float]:
        """Evaluates all tasks.

        Returns:
            Results by name; see :func:`fineclip.evaluation.runner.join_results`.
        """
        call_hook = self.runner.call_hook
        call_hook(f"before_{self.stage}")
        call_hook(f"before_{self.stage}_epoch")
        results: dict[str, dict[str, float]] = {}
        done = 0  # batches of the tasks before, so that hooks count through
        for task, loader in self.dataloader.loaders.items():

            def before(index: int, batch: Any, outputs: Any, done: int = done) -> None:
                call_hook(f"before_{self.stage}_iter", batch_idx=done + index, data_batch=batch)

            def after(index: int, batch: Any, outputs: Any, done: int = done) -> None:
                call_hook(
                    f"after_{self.stage}_iter",
                    batch_idx=done + index,
                    data_batch=batch,
                    outputs=outputs,
                )

            results[task] = evaluate(
                self.runner.model,
                loader,
                self.evaluators[task],
                progress=False,
                amp=self.amp,
                before_batch=before,
                after_batch=after,
            )
            done += len(loader)
        metrics = join_results(results)
        call_hook(f"after_{self.stage}_epoch", metrics=metrics)
        call_hook(f"after_{self.stage}")
        return metrics


@LOOPS.register_module()
class MultiTaskValLoop(_MultiTaskLoop):
    """Validation on several tasks.

    In a config: ``val_cfg=dict(type="MultiTaskValLoop")``, with ``val_dataloader`` and
    ``val_evaluator`` dicts by task name. When it runs is the training loop's ``val_begin`` and
    ``val_interval``, as usual.

    Args:
        runner: mmengine's runner.
        dataloader: Data loader, or its config, by task name.
        evaluator: Evaluator, or its config, by task name.
        amp: ``"bf16"``, ``"fp16"`` or None for full precision.

    Raises:
        TypeError: Not dicts.
        ValueError: The two name different tasks.
    """

    stage = "val"


@LOOPS.register_module()
class MultiTaskTestLoop(_MultiTaskLoop):
    """Test on several tasks; like :class:`MultiTaskValLoop` with ``test_*`` settings.

    Args:
        runner: mmengine's runner.
        dataloader: Data loader, or its config, by task name.
        evaluator: Evaluator, or its config, by task name.
        amp: ``"bf16"``, ``"fp16"`` or None for full precision.

    Raises:
        TypeError: Not dicts.
        ValueError: The two name different tasks.
    """

    stage = "test"
