import json

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.evaluation.loops import MultiTaskValLoop
from fineclip.evaluation.retrieval import RetrievalMetric


@pytest.fixture(autouse=True)
def _own_default_scope():
    """A runner sets mmengine's default scope for the rest of the process; here, for one test."""
    with DefaultScope.overwrite_default_scope("mmengine"):
        yield


class Pairs(Dataset):
    """Images whose embedding is a row of the identity; captions of the last one are wrong."""

    def __init__(self, wrong=0, length=4):
        self.wrong, self.length = wrong, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {
            "image": torch.zeros(3, 2, 2, dtype=torch.uint8),
            "texts": torch.tensor([[(index + (index < self.wrong)) % self.length]]),
            "data_sample": {"image_id": index},
            "skipped": [],
        }


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.clip = nn.Linear(1, 1)
        self.clip.device = torch.device("cpu")

    def forward(self, mode="tensor", **batch):
        if mode == "loss":
            assert self.training
            return {"loss": self.clip.weight.sum()}
        return self.predict(**batch)

    def predict(self, images, texts, text_image, data_samples):
        eye = torch.eye(4)
        return [
            {
                **sample,
                "image_embedding": eye[sample["image_id"]],
                "text_embeddings": eye[texts[text_image == i, 0]],
            }
            for i, sample in enumerate(data_samples)
        ]


class Record(Hook):
    def __init__(self):
        self.calls = []

    def before_val_epoch(self, runner):
        self.calls.append("epoch")

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.calls.append(batch_idx)

    def after_val_epoch(self, runner, metrics=None):
        self.calls.append(metrics)


def loader(**options):
    return {
        "dataset": Pairs(**options),
        "batch_size": 2,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": collate_evaluation},
    }


def make_runner(tmp_path, **options):
    config = {
        "model": Model(),
        "work_dir": str(tmp_path),
        "train_dataloader": loader(),
        "train_cfg": {"by_epoch": True, "max_epochs": 2, "val_interval": 1},
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
        "val_dataloader": {"right": loader(), "wrong": loader(wrong=2)},
        "val_evaluator": {
            "right": [RetrievalMetric(ks=(1,), prefix="right")],
            "wrong": {"type": "fineclip.RetrievalMetric", "ks": (1,)},
        },
        "val_cfg": {"type": "fineclip.MultiTaskValLoop"},
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": 1},
            "checkpoint": {"type": "CheckpointHook", "save_best": "t2i_r1", "rule": "greater"},
        },
        "experiment_name": tmp_path.name,
        "log_level": "ERROR",
        **options,
    }
    return Runner(**config)


def test_trains_validates_and_keeps_the_best_checkpoint(tmp_path):
    record = Record()
    runner = make_runner(tmp_path, custom_hooks=[record])
    runner.train()
    results = record.calls[5]
    assert record.calls[:5] == ["epoch", 0, 1, 2, 3]  # two batches per task, counted through
    assert results["right/t2i_r1"] == 100.0
    assert results["t2i_r1"] == 50.0
    assert record.calls.count("epoch") == 2
    assert (tmp_path / "best_t2i_r1_epoch_1.pth").exists()
    lines = (tmp_path / runner.timestamp / "vis_data" / "scalars.json").read_text().splitlines()
    assert any(json.loads(line).get("right/t2i_r1") == 100.0 for line in lines)


def test_validation_and_test_alone(tmp_path):
    runner = make_runner(
        tmp_path,
        train_dataloader=None,
        train_cfg=None,
        optim_wrapper=None,
        default_hooks={"checkpoint": None},
        test_dataloader={"only": loader(wrong=4)},
        test_evaluator={"only": {"type": "fineclip.RetrievalMetric", "ks": (1,)}},
        test_cfg={"type": "fineclip.MultiTaskTestLoop"},
    )
    assert runner.val()["t2i_r1"] == 50.0
    assert runner.test()["i2t_r1"] == 0.0


class FakeRunner:
    seed = 0

    def __init__(self):
        self._randomness_cfg = {}


@pytest.mark.parametrize(
    ("dataloader", "evaluator", "error", "message"),
    [
        ({"a": {}}, {"b": {}}, ValueError, r"same tasks, got \['a'\] and \['b'\]"),
        ({}, {}, ValueError, "same tasks"),
        ({"dataset": {}}, {"a": {}}, ValueError, "val_dataloader is one data loader"),
        ([], {}, TypeError, "val_dataloader must be a dict by task name"),
        ({"a": {}}, [], TypeError, "val_evaluator must be a dict by task name"),
    ],
)
def test_settings_are_checked(dataloader, evaluator, error, message):
    with pytest.raises(error, match=message):
        MultiTaskValLoop(FakeRunner(), dataloader, evaluator)
