"""The stages of :mod:`fineclip.experiments.finetuning` for a CLIP: boxes named by their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Subset

from fineclip.checkpoints.mixing import mixed_tensors
from fineclip.checkpoints.write import save_torch
from fineclip.command_line.described import described_run
from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config, write_plain_config
from fineclip.datasets.coco_layout import EvaluationFiles
from fineclip.datasets.description import DataDescription, read_description
from fineclip.datasets.evaluation import box_regions
from fineclip.datasets.panoptic_regions import InstanceRegionDataset, PanopticRegionDataset
from fineclip.devices import default_device
from fineclip.engine import build_runner, load_config, prepare_training
from fineclip.engine.launch import Precision
from fineclip.evaluation.box_classification import class_groups_of, mean_class_accuracy
from fineclip.evaluation.prediction import predictor
from fineclip.evaluation.similarity import similarities
from fineclip.experiments.engine import Outcome
from fineclip.experiments.examining import (
    PARTS,
    WEIGHTS,
    Part,
    Question,
    divided,
    examination,
    splits_of,
)
from fineclip.models import DenseCLIP, build_class_embeddings
from fineclip.progress import track
from fineclip.text.joining import joined_vocabulary, reading_of
from fineclip.weights import weights_file

_CONFIG = Path(__file__).parents[2] / "configs" / "fineclip" / "own.py"
_BATCH = 16  # images that are encoded at a time
_Parts: TypeAlias = "dict[Part, PanopticRegionDataset | InstanceRegionDataset]"
_VARIABLES = {"epochs": "max_epochs", "batch_size": "batch_size", "lr": "lr"}


def finetune_clip(
    folder: str | Path,
    *,
    start: str,
    data: str,
    seed: int = 0,
    amp: Precision | None = None,
    frozen: bool = False,
    rehearse: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Outcome:
    """Continues a CLIP on one's own boxes; an interrupted call is continued.

    By FineCLIP's objectives where there are captions of the images, else by its contrast of regions
    with their captions, or the names of their classes.

    Args:
        folder: Work dir of the training.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        seed: Of the training.
        amp: Precision; None: float32.
        frozen: The last block of the image tower trains, and nothing else.
        rehearse: Must be None.
        recipe: Overrides of the schedule that follows from the number of images.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit, or there is something to rehearse.
    """
    if rehearse is not None:
        raise ValueError(
            "--keep rehearse: a CLIP does not rehearse; --keep interpolate and --keep frozen keep "
            "what it knows"
        )
    own = read_description(data)
    captioned = own.require("train", "annotations").captions is not None
    options = {
        "start": str(weights_file(start)),
        "method": "fineclip" if captioned else "rc",
        "seed": seed,
        "alpha": 1.0,  # mixes are made, and chosen, afterwards
        **{_VARIABLES[key]: value for key, value in (recipe or {}).items()},
        **({"trainable": ("image",), "unlocked_groups": 1} if frozen else {}),
    }
    run = described_run(_CONFIG, data, options)
    config = load_config(_CONFIG, run.options)
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    config.custom_hooks.append({"type": "ProgressBarHook", "description": "CLIP"})
    runner = build_runner(config, work_dir=folder, amp=amp, resume=True, used="refuse")
    prepare_training(runner)
    runner.train()
    return {
        "metrics": {},
        "checkpoint": f"epoch_{config.max_epochs}.pth",
        "said": run.lines[0],
    }


def examine_clip(
    folder: str | Path,
    *,
    start: str,
    data: str,
    reference: str | None,
    seed: int = 0,
    trained: str | None = None,
    alphas: Sequence[float] = (),
    offsets: Sequence[float] = (0.0,),
    before: str | None = None,
) -> Outcome:
    """Examines a start alone, or what was trained from it and its mixes with the start.

    Args:
        folder: Where answers are kept; ``finetuned.pth``, the chosen mix, is written here.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        reference: Description of the data that tell what is kept; None: the start's.
        seed: Of the division of validation images.
        trained: Checkpoint of what was trained from it; None: the start alone.
        alphas: Shares of its weights.
        offsets: Of the logits of one's own classes.
        before: Folder of the start's own examination.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit.
    """
    examiner = ClipExaminer(weights_file(start), read_description(data), reference, trained, seed)
    return examination(Path(folder), examiner, before=before, alphas=alphas, offsets=offsets)


@dataclass(frozen=True)
class _Regions:
    """Boxes of some images: (n, D) unit vectors and (n,) places in the data set's vocabulary."""

    embeddings: Tensor
    labels: np.ndarray


class ClipExaminer:
    """A CLIP that names annotated boxes: mean accuracy over classes, the first answer counting.

    Args:
        start: Checkpoint, beside which its training has left its configuration.
        own: Description of one's own data.
        reference: Description of the data that tell what is kept; None: the boxes that the start
            was evaluated on.
        trained: Checkpoint of the fine-tuned weights; None: the start alone.
        seed: Of the division into parts.

    Attributes:
        images: Number of images of each side and part.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data without boxes, or too few images.
    """

    def __init__(
        self,
        start: Path,
        own: DataDescription,
        reference: str | None,
        trained: str | None,
        seed: int,
    ) -> None:
        beside = Path(trained or start).with_name(PLAIN_CONFIG)
        self._config = load_config(beside)
        first = read_plain_config(start.with_name(PLAIN_CONFIG))
        transform = {"size": self._config.image_size}
        self._templates = first.get("templates", "vild")
        self._data: dict[tuple[str, str], Subset] = {}
        kept = (
            _of_start(first, transform)
            if reference is None
            else _described(read_description(reference), transform)
        )
        sides = {"own": _described(own, transform), "kept": kept}
        for side, parts in sides.items():
            for part, dataset in parts.items():
                places = list(range(len(dataset)))
                if parts["choose"] is parts["report"]:
                    places = divided(places, seed)[part]
                self._data[side, part] = Subset(dataset, places)
        self.images = {" ".join(key): len(data) for key, data in self._data.items()}
        self._asked = {
            side: parts["report"].metainfo["vocabulary"] for side, parts in sides.items()
        }
        self._asked["both"] = joined_vocabulary(self._asked["own"], self._asked["kept"])
        self._own = {reading_of(category) for category in self._asked["own"].categories}
        name = self._config.model_name
        self.model = DenseCLIP.create(name, str(start)).to(default_device()).eval()
        self._start = {k: v.cpu().clone() for k, v in self.model.clip.state_dict().items()}
        self._trained = None
        if trained is not None:
            self._trained = DenseCLIP.create(name, trained).clip.state_dict()
        self._seen: dict[tuple[str, str], _Regions] = {}
        self._classes: dict[str, Tensor] = {}

    def load(self, alpha: float) -> None:
        """Takes ``alpha`` x the fine-tuned weights + ``1 - alpha`` x the start's."""
        if self._trained is not None:
            self.model.clip.load_state_dict(mixed_tensors(self._trained, self._start, alpha))
        self._seen.clear()
        self._classes.clear()

    def answer(self, question: Question) -> dict[str, float]:
        """Accuracy in percent: of all classes and, on the reference, of base and novel ones."""
        regions = self._regions(question.side, question.part)
        known = self._asked[question.side]
        asked = "both" if question.together else question.side
        vocabulary = self._asked[asked]
        logits = similarities(regions.embeddings, self._embedded(asked))  # (n, K)
        logits *= float(self.model.logit_scale.detach().exp())
        readings = [reading_of(category) for category in vocabulary.categories]
        logits += torch.tensor([question.offset * (reading in self._own) for reading in readings])
        places = np.array([readings.index(reading_of(c)) for c in known.categories])
        correct = logits.argmax(dim=1).numpy() == places[regions.labels]
        found = {"top1": mean_class_accuracy(correct, regions.labels)}
        if question.side == "kept":
            for group, members in class_groups_of(known).items():
                inside = members[regions.labels]
                if group in ("base", "novel") and inside.any():
                    score = mean_class_accuracy(correct[inside], regions.labels[inside])
                    found[f"{group}_top1"] = score
        return found

    def write(self, folder: Path) -> None:
        """Writes the loaded weights and the configuration that names their model."""
        save_torch(folder / WEIGHTS, {"state_dict": self.model.clip.state_dict()})
        write_plain_config(self._config, folder)

    def _embedded(self, asked: str) -> Tensor:
        if asked not in self._classes:
            names = self._asked[asked].prompt_names
            self._classes[asked] = build_class_embeddings(self.model, names, self._templates).cpu()
        return self._classes[asked]

    def _regions(self, side: str, part: str) -> _Regions:
        if (side, part) not in self._seen:
            loader = Runner.build_dataloader(
                {
                    "dataset": self._data[side, part],
                    "batch_size": _BATCH,
                    "num_workers": 0,
                    "sampler": {"type": "DefaultSampler", "shuffle": False},
                    "collate_fn": {"type": "fineclip.collate_evaluation"},
                }
            )
            embed = predictor(self.model)
            found, labels = [torch.zeros(0, self.model.embed_dim)], [np.zeros(0, np.int64)]
            for batch in track(loader, f"{side} regions", "batch"):
                inputs = {key: value for key, value in batch.items() if key != "skipped"}
                for sample in embed(inputs) if len(batch["data_samples"]) else ():
                    if "region_embeddings" in sample:
                        found.append(sample["region_embeddings"].cpu())
                        labels.append(np.asarray(sample["labels"]))
            self._seen[side, part] = _Regions(torch.cat(found), np.concatenate(labels))
        return self._seen[side, part]


def _described(description: DataDescription, transform: Mapping[str, Any]) -> _Parts:
    """The boxes of what is chosen by and reported on."""
    splits = splits_of(description)
    data = {
        split: box_regions(
            files=EvaluationFiles(files.images, instances=files.annotations),
            transform=transform,
            vocabulary=description.vocabulary,
        )
        for split in dict.fromkeys(splits.values())
        for files in [description.require(split, "annotations")]
    }
    return {part: data[split] for part, split in splits.items()}


def _of_start(config: Any, transform: Mapping[str, Any]) -> _Parts:
    """The boxes that the start was evaluated on."""
    loader = (config.get("val_dataloader") or {}).get("box_classification")
    if loader is None:
        raise ValueError(
            "the start was not evaluated on boxes, so nothing tells what it keeps: name data with "
            "--reference"
        )
    arguments = {k: v for k, v in loader["dataset"].to_dict().items() if k != "type"}
    return dict.fromkeys(PARTS, box_regions(**{**arguments, "transform": transform}))
