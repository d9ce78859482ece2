"""Described data in a configuration, and a second data set that is rehearsed."""

from pathlib import Path

import pytest
import torch
import yaml

from segmentation.engine import SegmentationTrainer, check_inputs, load_config
from segmentation.engine.described import described_config
from segmentation.engine.launch import pin_config
from segmentation.engine.loader import ResumableSampler
from segmentation.engine.rehearsal import RehearsedBatches

OWN = Path(__file__).parents[3] / "configs" / "segmentation" / "own.yaml"


@pytest.fixture
def description(scenes_root):
    return scenes_root / "scenes" / "data.yaml"


def test_data_and_recipe(description, make_config):
    cfg, lines = described_config(OWN, description)
    assert cfg.DATASETS.TRAIN == ("scenes_train_sem_seg",)
    assert cfg.DATASETS.TEST == ("scenes_val_sem_seg",)
    assert [str(description)] == cfg.DATASETS.DESCRIPTIONS
    head = cfg.MODEL.SEM_SEG_HEAD
    assert (head.TRAIN_CLASS_JSON, head.TEST_CLASS_JSON, head.NUM_CLASSES) == ("", "", 30)
    assert cfg.SOLVER.MAX_ITER == 400 and cfg.SOLVER.IMS_PER_BATCH == 2
    assert lines == (
        "8 images: 100 epochs of 4 steps of 2, learning rate 0.0002, warmup 40 steps, evaluation "
        "every 25 epochs",
    )
    check_inputs(cfg)
    cfg, (line,) = described_config(OWN, description, ["SOLVER.BASE_LR", "1.0"], processes=3)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (1, 3)
    assert line.endswith("; but for SOLVER.BASE_LR of the command line")
    # A configuration that is no recipe keeps its own schedule.
    other = OWN.with_name("scenes_vit-ti-8.yaml")
    cfg, lines = described_config(other, description, train=False)
    assert (cfg.DATASETS.TRAIN, cfg.SOLVER.MAX_ITER, lines) == ((), 300, ())


def test_network_and_input_are_those_of_the_start(description, make_config, tmp_path):
    start = make_config("OUTPUT_DIR", str(tmp_path), "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "full")
    pin_config(start, "own")
    cfg, (line,) = described_config(
        OWN, description, ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    )
    head = cfg.MODEL.SEM_SEG_HEAD
    assert head.CLIP_PRETRAINED == "ViT-Ti-8-scenes" and head.FEATURE_RESOLUTION == [4, 4]
    assert cfg.INPUT.MIN_SIZE_TEST == 32 and cfg.MODEL.PROMPT_ENSEMBLE_TYPE == "plain"
    assert head.CLIP_FINETUNE == "frozen" and head.TRAIN_CLASS_JSON == ""
    assert cfg.SOLVER.BASE_LR == 0.002 and "learning rate 0.002" in line


def test_what_does_not_fit(description, tmp_path):
    with pytest.raises(ValueError, match=r"DATASETS\.TEST: --data .* says this already"):
        described_config(OWN, description, ["DATASETS.TEST", "()"])
    content = yaml.safe_load(description.read_text())
    del content["train"]["masks"]
    file = description.with_name("boxes.yaml")
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"boxes\.yaml: train: missing key 'masks'"):
        described_config(OWN, file)
    cfg = load_config(OWN, ["DATASETS.REHEARSE", "['scenes_val_sem_seg', 'voc']"])
    cfg.DATASETS.TRAIN = ("scenes_train_base_sem_seg",)
    with pytest.raises(ValueError, match=r"DATASETS\.REHEARSE: expected one data set"):
        check_inputs(cfg)


class _Loader:
    """Names its sampler's places in batches of two."""

    def __init__(self, sampler, name):
        self.sampler, self.name, self.loader = sampler, name, self

    def __iter__(self):
        places = iter(self.sampler)
        while True:
            yield [{"from": self.name, "place": next(places)} for _ in range(2)]


def rehearsing(seed=0):
    samplers = (ResumableSampler(5, seed), ResumableSampler(3, seed))
    loaders = (_Loader(samplers[0], "own"), _Loader(samplers[1], "old"))
    return RehearsedBatches(loaders, samplers, names=["x", "y"], share=0.4, images=2)


def test_steps_are_shared_and_repeated_when_resumed():
    batches = iter(rehearsing())
    seen = [next(batches) for _ in range(200)]
    old = [batch for batch in seen if batch[0]["from"] == "old"]
    assert 60 < len(old) < 100
    assert all(batch[0]["from"] == batch[1]["from"] for batch in seen)
    assert all(("train_classes" in batch[0]) == (batch in old) for batch in seen)
    assert old[0][0]["train_classes"] == ("x", "y")
    resumed = rehearsing()
    resumed.start = 2 * 50
    continued = iter(resumed)
    assert [next(continued) for _ in range(20)] == seen[50:70]


def test_a_second_data_set_has_its_own_classes(make_config, monkeypatch):
    cfg = make_config(
        *("DATASETS.REHEARSE", "['scenes_val_sem_seg']", "DATASETS.REHEARSE_SHARE", "0.7"),
        *("SOLVER.MAX_ITER", "2", "SEED", "0", "MODEL.SEM_SEG_HEAD.CLASSES_PER_STEP", "0"),
    )
    check_inputs(cfg)
    trainer = SegmentationTrainer(cfg)
    asked = []
    logits = trainer.model.logits

    def noting(inputs, names=None):
        asked.append(len(names))
        return logits(inputs, names)

    monkeypatch.setattr(trainer.model, "logits", noting)
    trainer.train()
    assert [trainer._sampler.is_rehearsed(step) for step in range(2)] == [True, False]
    assert asked == [42, 30]
    saved = torch.load(f"{cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)
    assert saved["trainer"]["settings"]["DATASETS.REHEARSE_SHARE"] == 0.7
