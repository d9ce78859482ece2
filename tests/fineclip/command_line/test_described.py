"""``--data``: what a description says reaches every place of every config."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from fineclip.command_line.described import described_images, described_run
from fineclip.configuration.mistakes import read_sound_config
from fineclip.configuration.model_names import tower_sizes
from fineclip.configuration.plain import PLAIN_CONFIG, write_plain_config
from fineclip.configuration.settings import sections
from fineclip.datasets.description import read_description
from fineclip.datasets.region_source import AnnotationFiles, ReadSettings
from fineclip.scenes import make_scenes
from fineclip.text import as_vocabulary

CONFIGS = Path(__file__).parents[3] / "configs"
# One of each kind.
FILES = (
    *("fineclip/coco_vit-b-16.py", "fineclip/cc2.5m_vit-b-16.py", "fineclip/scenes.py"),
    *("fineclip/own.py", "clipself/lvis-patches_eva02-b-16.py"),
    *("clipself/coco-regionclip_eva02-b-16.py", "detection/ov-coco_vit-b-16.py"),
    *("detection/ov-lvis_eva02-l-14-336.py", "detection/scenes_fvit.py", "detection/own.py"),
)
KINDS = ("image_root", "annotations", "captions", "instances", "ann_file", "img")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "scenes"
    make_scenes(folder, images=8, val_images=2, size=64)
    return folder


def described(folder, **changes):
    """Another description of the same files."""
    content = yaml.safe_load((folder / "data.yaml").read_text()) | changes
    content = {key: value for key, value in content.items() if value is not None}
    file = folder / "changed.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def finished(config, data, parts=("train", "val"), **options):
    run = described_run(config, data, options, parts=parts)
    return read_sound_config(config, run.options, parts), run


@pytest.mark.parametrize("name", FILES)
def test_every_config_takes_it(scenes, name):
    options = {"pretrained": None, "text_pretrained": None} if "scenes_fvit" in name else {}
    config, run = finished(CONFIGS / name, scenes, **options)
    content = config._cfg_dict.to_dict()
    read = {key: content[f"{key}_dataloader"] for key in ("train", "val", "test")}
    named = {
        section[key]
        for _, section in sections(read)
        for key in KINDS
        if isinstance(section.get(key), str)
    }
    assert named and all(Path(file).is_relative_to(scenes) for file in named)
    names = read_description(scenes).vocabulary.names
    assert as_vocabulary(config.vocabulary).names == names
    if "detection" in name:
        dataset, head = config.train_dataloader.dataset, config.model.roi_head.bbox_head
        assert dataset.base_only and dataset.ann_file.endswith("instances_train.json")
        for vocabulary in (dataset.vocabulary, head.vocabulary, head.loss_cls.class_weight):
            assert as_vocabulary(vocabulary.to_dict()).names == names
        assert config.val_evaluator.ann_file == config.val_dataloader.dataset.ann_file
        assert config.val_evaluator.type == "OpenVocabularyCocoMetric"
        assert config.val_evaluator.metric == (["bbox", "segm"] if "lvis" in name else "bbox")
    else:
        assert set(config.val_dataloader) == {"box_classification", "retrieval"}
        # Pixels come in as the config has it.
        plain = {} if "own" in name else read_sound_config(CONFIGS / name, {}, ())
        for task in config.val_dataloader if plain else ():
            transform = config.val_dataloader[task].dataset.transform
            assert transform == plain.val_dataloader[task].dataset.transform
    said = [line for line in run.lines if line.startswith("8 images: 100 epochs of 4 steps of 2")]
    assert bool(said) == name.endswith("own.py")


@pytest.mark.parametrize("name", ["coco-transfer", "voc2007-transfer"])
def test_configs_without_training_say_so(scenes, name):
    file = CONFIGS / f"detection/{name}_eva02-l-14-336.py"
    with pytest.raises(ValueError, match="trains nothing"):
        described_run(file, scenes)
    if name == "coco-transfer":
        config, _ = finished(file, scenes, ("test",))
        assert config.test_dataloader.dataset.ann_file.endswith("instances_val.json")
    else:
        with pytest.raises(ValueError, match="reads files of VOCDataset"):
            described_run(file, scenes, parts=("test",))


def test_options_stand_above_it_and_do_not_contradict_it(scenes):
    file = CONFIGS / "detection/own.py"
    config, run = finished(file, scenes, **{"max_epochs": 2, "train_dataloader.num_workers": 1})
    assert config.train_cfg.max_epochs == 2 and config.train_dataloader.num_workers == 1
    assert config.param_scheduler[1].T_max == 2
    assert "but for max_epochs of the command line" in run.lines[0]
    with pytest.raises(ValueError, match=r"vocabulary: --data .* says this already"):
        described_run(file, scenes, {"vocabulary": "coco"})
    with pytest.raises(FileNotFoundError, match=r"data/my does not exist; name the data\.yaml"):
        read_sound_config(file, {"start": None}, ("train",))


def test_what_it_lacks(scenes):
    file = CONFIGS / "fineclip/own.py"
    boxes = {"images": "train", "annotations": "annotations/instances_train.json"}
    with pytest.raises(ValueError, match=r"changed\.yaml: train: missing key 'captions'"):
        described_run(file, described(scenes, train=boxes))
    # A method that reads no captions needs none; without a val split nothing is evaluated.
    data = described(scenes, train=boxes, val=None)
    config, _ = finished(file, data, method="clipself")
    assert config.val_dataloader is None and config.val_cfg is None
    detector, _ = finished(CONFIGS / "detection/own.py", data)
    assert detector.val_evaluator is None and detector.test_cfg is None
    val = {"images": "val", "captions": "annotations/captions_val.json"}
    config, _ = finished(file, described(scenes, val=val))
    assert set(config.val_dataloader) == set(config.val_evaluator) == {"retrieval"}
    with pytest.raises(ValueError, match="has no 'annotations', which detection needs"):
        described_run(CONFIGS / "detection/own.py", described(scenes, val=val))
    with pytest.raises(ValueError, match="no split 'train'"):
        described_run(file, described(scenes, train=None))


def test_novel_classes_are_no_captions_of_boxes(scenes):
    train = yaml.safe_load((scenes / "data.yaml").read_text())["train"]
    named = {key: train[key] for key in ("images", "annotations", "captions")}
    config, _ = finished(CONFIGS / "fineclip/own.py", described(scenes, train=named))
    source = config.train_dataloader.dataset.source.to_dict()
    assert source.pop("type") == "AnnotationFiles" and "red square" not in source["left_out"]
    wanted = ReadSettings(annotations=True, captions=True, categories=True, region_captions=True)
    opened = AnnotationFiles(**source).open(wanted)
    labelled = {
        annotation["category_id"]
        for record in opened.records(range(8))
        for annotation in record.annotations
    }
    split = {c["id"]: c["split"] for c in opened.categories}
    assert {split[key] for key in labelled} == {"base"}
    free, _ = finished(CONFIGS / "fineclip/own.py", scenes)  # whose captions are sentences
    assert "left_out" not in free.train_dataloader.dataset.source


@pytest.fixture
def detector(scenes, tmp_path):
    """What a training leaves: its config as data, and a checkpoint."""
    config, _ = finished(
        CONFIGS / "detection/scenes_fvit.py", scenes, pretrained=None, text_pretrained="openai"
    )
    write_plain_config(config, tmp_path)
    (tmp_path / "epoch_2.pth").write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("epoch_2.pth")
    return tmp_path


def test_starts_from_a_detector(scenes, detector):
    config, run = finished(CONFIGS / "detection/own.py", scenes, start=str(detector))
    assert config.load_from == str(detector / "epoch_2.pth") and config.pretrained is None
    assert config.model.backbone.first_level == 1 and config.model.norm_eval
    assert config.model.backbone.pretrained is None
    head = config.model.roi_head.bbox_head
    assert head.keep_vocabulary and head.class_embeddings.pretrained == "openai"
    assert config.image_size == 128 and config.optim_wrapper.optimizer.lr == 1e-3
    assert "learning rate 0.001" in run.lines[0]
    with pytest.raises(ValueError, match="of a FViT, which is no start for pretraining"):
        described_run(CONFIGS / "fineclip/own.py", scenes, {"start": str(detector)})
    # Its own config as data takes a description, too.
    config, _ = finished(detector / PLAIN_CONFIG, scenes, ("test",))
    assert config.test_dataloader.dataset.ann_file.endswith("instances_val.json")
    assert "_delete_" not in json.dumps(config._cfg_dict.to_dict())


def test_starts_from_a_clip_of_ours(scenes, tmp_path):
    trained, _ = finished(CONFIGS / "fineclip/scenes.py", scenes)
    write_plain_config(trained, tmp_path)
    (tmp_path / "epoch_5.pth").write_bytes(b"")
    start = str(tmp_path / "epoch_5.pth")
    config, _ = finished(CONFIGS / "fineclip/own.py", scenes, start=start)
    assert config.model.clip.name == "ViT-Ti-8-scenes" and config.model.clip.pretrained == start
    assert (config.image_size, config.crop_size) == (64, 32)
    config, run = finished(CONFIGS / "detection/own.py", scenes, start=start)
    assert config.model.backbone.model == "ViT-Ti-8-scenes"
    assert config.model.backbone.out_indices == [1, 1, 2, 3]
    assert config.model.neck.in_channels == [128] * 4
    assert config.model.roi_head.bbox_head.class_embeddings.pretrained == start
    assert run.lines[1] == "images are scaled to 64 pixels"  # as large as they are
    with pytest.raises(ValueError, match="model_name=RN50: the sizes"):
        described_run(CONFIGS / "detection/own.py", scenes, {"model_name": "RN50"})
    with pytest.raises(FileNotFoundError, match="none of these"):
        described_run(CONFIGS / "detection/own.py", scenes, {"start": "none of these.pth"})


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ViT-B/16", (16, 768, 12, 512)),
        ("EVA02-L-14-336", (14, 1024, 24, 768)),
        ("EVA02-Ti-16", (16, 96, 3, 64)),
        ("RN50", None),
        ("no model", None),
    ],
)
def test_sizes_of_towers(name, sizes):
    found = tower_sizes(name)
    assert (found and (found.patch, found.width, found.blocks, found.embed_dim)) == sizes


def test_images_of_a_description(scenes, tmp_path):
    files = read_description(scenes).splits["val"]
    assert described_images(files, 1) == [scenes / "val" / "000000000001.jpg"]
    shutil.copytree(scenes / "val", tmp_path / "val")
    file = tmp_path / "data.yaml"
    file.write_text("classes: [a]\nval: {images: val}")
    assert len(described_images(read_description(file).splits["val"], 5)) == 2
