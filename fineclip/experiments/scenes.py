"""CLIP from scratch on scenes, continued with and without FineCLIP: does it see regions?"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fineclip.files import write_atomically
from fineclip.scenes import make_scenes

METRICS = ("box_top1", "box_top5", "i2t_r1", "t2i_r1")
RUNS = ("clip", "clip_continued", "fineclip")
STAGES = ("scenes", *RUNS)
RECIPE = Path(__file__).parents[2] / "configs" / "fineclip" / "scenes.py"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """Size of the experiment.

    Attributes:
        images: Training scenes.
        val_images: Validation scenes.
        pretrain_epochs: Epochs of the first CLIP, from scratch.
        epochs: Epochs of each continuation.
        lr: Learning rate of the first CLIP.
        continue_lr: Learning rate of the continuations.
        batch_size: Images per step of the first CLIP.
        continue_batch_size: Images per step of the continuations.
    """

    images: int = 3000
    val_images: int = 500
    pretrain_epochs: int = 10
    epochs: int = 6
    lr: float = 1e-3
    continue_lr: float = 1e-3
    batch_size: int = 64
    continue_batch_size: int = 32


def run_scenes(
    work_dir: str | Path,
    *,
    seed: int = 0,
    settings: Settings | None = None,
    stages: Sequence[str] = STAGES,
    report: Report = lambda line: None,
) -> dict[str, dict[str, float]]:
    """Makes scenes and trains and evaluates the three models; finished stages are kept.

    A tiny CLIP is trained from scratch with the global loss alone (``clip``), then continued for
    the same number of steps with the global loss (``clip_continued``) and with FineCLIP's three
    losses (``fineclip``).

    Args:
        work_dir: Everything is written below this folder.
        seed: Seed of the scenes and of training.
        settings: Size of the experiment.
        stages: Which stages to run; the results of others are reused where they exist.
        report: Called with one line per stage.

    Returns:
        Metrics of :data:`METRICS` in percent, by run, as far as there are any.

    Raises:
        ValueError: An unknown stage, or one whose predecessor has not been run.
    """
    if unknown := sorted(set(stages) - set(STAGES)):
        raise ValueError(f"unknown stage {', '.join(unknown)}; known: {', '.join(STAGES)}")
    settings = settings or Settings()
    root = Path(work_dir) / f"seed{seed}"
    data = root / "scenes"
    if "scenes" in stages:
        start = time.monotonic()
        counts = make_scenes(
            data, images=settings.images, val_images=settings.val_images, seed=seed, workers=2
        )
        report(
            f"seed {seed}: scenes: {counts['train']['images']} + {counts['val']['images']} images"
            f" ({time.monotonic() - start:.0f} s)"
        )
    results = {}
    for name in RUNS:
        start = time.monotonic()
        outcome = _Run(name, root, data, seed, settings).result(train=name in stages)
        if outcome is None:
            continue
        results[name] = outcome
        values = ", ".join(f"{metric} {outcome[metric]:.1f}" for metric in METRICS)
        report(f"seed {seed}: {name}: {values} ({time.monotonic() - start:.0f} s)")
    return results


def finished_run(
    work_dir: str | Path, name: str, *, seed: int, settings: Settings
) -> tuple[Path, str] | None:
    """The trained weights of a run, and a text that changes whenever they would.

    Args:
        work_dir: Folder given to :func:`run_scenes`.
        name: One of :data:`RUNS`.
        seed: Which seed's.
        settings: Settings of the experiment.

    Returns:
        Checkpoint and fingerprint; None if the run is not finished.
    """
    root = Path(work_dir) / f"seed{seed}"
    run = _Run(name, root, root / "scenes", seed, settings)
    if run.result(train=False) is None or not run.checkpoint.is_file():
        return None
    return run.checkpoint, run.fingerprint


@dataclass(frozen=True)
class _Run:
    """One of the three trainings."""

    name: str
    root: Path
    data: Path
    seed: int
    settings: Settings

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def epochs(self) -> int:
        return self.settings.pretrain_epochs if self.name == "clip" else self.settings.epochs

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"epoch_{self.epochs}.pth"

    def result(self, train: bool) -> dict[str, float] | None:
        """Metrics of the finished run; trains and evaluates first where that is wanted."""
        marker, file = self.folder / "fingerprint", self.folder / "result.json"
        fingerprint = self.fingerprint
        current = marker.is_file() and marker.read_text() == fingerprint
        if current and file.is_file():
            return json.loads(file.read_text())
        if not train:
            return None
        config = self._config()
        if not current:
            # Checkpoints of other settings must not be taken for an interrupted run of these.
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_atomically(marker, fingerprint)
        # Imported here: a finished experiment is shown again without waiting for libraries.
        from fineclip.engine import build_runner, prepare_training

        runner = build_runner(config, work_dir=self.folder, amp="bf16", resume=True)
        with attention_for_short_sequences():
            prepare_training(runner)
            runner.train()
            metrics = {name: float(value) for name, value in runner.test().items()}
        write_atomically(file, json.dumps(metrics))
        return metrics

    def _config(self) -> Any:
        from fineclip.engine import load_config

        first = self.name == "clip"
        start_from = None
        if not first:
            clip = finished_run(self.root.parent, "clip", seed=self.seed, settings=self.settings)
            if clip is None:
                raise ValueError(
                    f"stage {self.name} needs stage clip with the same settings: "
                    f"{self.root / 'clip'} does not hold it"
                )
            start_from = str(clip[0])
        if not self.data.is_dir():
            raise ValueError(f"stage {self.name} needs stage scenes: {self.data} is missing")
        config = load_config(
            RECIPE,
            {
                "method": "fineclip" if self.name == "fineclip" else "clip",
                "data_root": str(self.data),
                "seed": self.seed,
                "max_epochs": self.epochs,
                "log_interval": 20,
                "lr": self.settings.lr if first else self.settings.continue_lr,
                "batch_size": (
                    self.settings.batch_size if first else self.settings.continue_batch_size
                ),
                "load_from": start_from,
            },
        )
        config.log_level = "ERROR"  # the progress bar and one line per stage say enough
        config.custom_hooks.append({"type": "ProgressBarHook", "description": self.name})
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        return config

    @property
    def fingerprint(self) -> str:
        """Changes whenever the run would."""
        facts = [self.name, self.seed, asdict(self.settings)]
        sources = [RECIPE, *sorted(RECIPE.parent.glob("_base_/*.py"))]
        text = json.dumps(facts) + "".join(file.read_text() for file in sources)
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def attention_for_short_sequences() -> Iterator[None]:
    """On a CPU the fused kernel's backward pass takes half of a step at these tiny sizes."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from fineclip.engine import default_device

    if default_device().type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def summarize(by_seed: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over seeds of the main metrics by run, with the seeds' own values beside them.

    Args:
        by_seed: What :func:`run_scenes` returned, by seed.

    Returns:
        ``{run: {metric: mean}}`` and ``"seeds": {seed: {run: {metric: value}}}``, in percent.
    """
    runs = [name for name in RUNS if all(name in results for results in by_seed.values())]
    summary: dict[str, Any] = {
        run: {
            metric: mean(results[run][metric] for results in by_seed.values()) for metric in METRICS
        }
        for run in runs
    }
    summary["seeds"] = {
        str(seed): {run: {m: results[run][m] for m in METRICS} for run in runs}
        for seed, results in by_seed.items()
    }
    return summary


def table(by_seed: dict[int, dict[str, dict[str, float]]]) -> str:
    """The summary as a Markdown table: mean and, with several seeds, standard deviation."""
    titles = ("model", "box Top1", "box Top5", "I2T R@1", "T2I R@1")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for run in RUNS:
        if not all(run in results for results in by_seed.values()):
            continue
        cells = []
        for metric in METRICS:
            values = [results[run][metric] for results in by_seed.values()]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread}")
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_curves(work_dir: str | Path, seed: int, out: str | Path) -> None:
    """Draws the losses of all runs over training steps.

    Args:
        work_dir: Folder given to :func:`run_scenes`.
        seed: Which seed's runs.
        out: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    for axis, (key, title) in zip(
        axes,
        (
            ("loss_global", "global contrastive"),
            ("loss_region", "region contrastive"),
            ("loss_distill", "self-distillation"),
        ),
        strict=True,
    ):
        for index, run in enumerate(RUNS):
            points = _scalars(Path(work_dir) / f"seed{seed}" / run, key)
            if points:
                axis.plot(*zip(*points, strict=True), label=run, color=f"C{index}")
        axis.set(title=title, xlabel="step", ylabel="loss")
        axis.legend()
        axis.grid(alpha=0.3)
    temporary = Path(out).with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120)
    temporary.replace(out)


def _scalars(folder: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of one logged value, from the newest log of a run."""
    points: dict[int, float] = {}
    for file in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if key in entry:
                points[int(entry["step"])] = entry[key]
    return sorted(points.items())
