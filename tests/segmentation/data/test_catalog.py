"""The benchmarks in detectron2's catalogs: names, classes, folders, messages."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from fineclip.datasets.segmentation_benchmarks import BENCHMARKS
from fineclip.scenes import BASE_CATEGORIES, STUFF_CATEGORIES, make_scenes
from fineclip.scenes.export import vocabulary
from fineclip.text import Vocabulary, load_vocabulary
from segmentation import add_cat_seg_config
from segmentation.data import check_class_lists, dataset_names, read_label_map, register_datasets

# name: (classes, ignore label, folder of label maps), as the release has them
RELEASE = {
    "coco_2017_train_stuff_all_sem_seg": (
        171,
        255,
        "coco-stuff/annotations_detectron2/train2017",
    ),
    "coco_2017_test_stuff_all_sem_seg": (171, 255, "coco-stuff/annotations_detectron2/val2017"),
    "ade20k_150_test_sem_seg": (
        150,
        255,
        "ADEChallengeData2016/annotations_detectron2/validation",
    ),
    "ade20k_full_sem_seg_freq_val_all": (
        847,
        65535,
        "ADE20K_2021_17_01/annotations_detectron2/validation",
    ),
    "context_59_test_sem_seg": (59, 255, "VOCdevkit/VOC2010/annotations_detectron2/pc59_val"),
    "context_459_test_sem_seg": (459, 459, "VOCdevkit/VOC2010/annotations_detectron2/pc459_val"),
    "voc_2012_test_sem_seg": (20, 255, "VOCdevkit/VOC2012/annotations_detectron2/val"),
    "voc_2012_test_background_sem_seg": (
        21,
        255,
        "VOCdevkit/VOC2012/annotations_detectron2_bg/val",
    ),
}


@pytest.fixture
def root(tmp_path):
    register_datasets(tmp_path)
    yield tmp_path
    register_datasets()


def put(root, benchmark, images, labels):
    for folder, names, suffix in (
        (benchmark.images, images, ".jpg"),
        (benchmark.labels, labels, benchmark.label_suffix),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / (name + suffix)).touch()


def test_names_classes_and_folders_are_the_release_s(root):
    assert set(dataset_names()) == {*RELEASE, "scenes_train_base_sem_seg", "scenes_val_sem_seg"}
    for name, (classes, ignore_label, labels) in RELEASE.items():
        metadata = MetadataCatalog.get(name)
        assert len(set(metadata.stuff_classes)) == classes, name
        assert metadata.ignore_label == ignore_label
        assert metadata.sem_seg_root == str(root / labels)
        assert metadata.evaluator_type == "sem_seg"
        if "background" not in name:
            assert metadata.prompt_classes == metadata.stuff_classes
    assert (
        "building, edifice" in MetadataCatalog.get("ade20k_full_sem_seg_freq_val_all").stuff_classes
    )
    background = MetadataCatalog.get("voc_2012_test_background_sem_seg")
    assert (background.background_class, background.stuff_classes[20]) == (20, "background")
    assert background.prompt_classes == list(load_vocabulary("voc20b").names)


def test_seen_classes_are_those_of_coco_stuff(root):
    seen = MetadataCatalog.get("voc_2012_test_sem_seg").seen_classes
    assert "person" in seen and "train" in seen
    assert "tvmonitor" not in seen
    ade = MetadataCatalog.get("ade20k_150_test_sem_seg").seen_classes
    assert "bed " in ade  # written with a space here, without it there
    full = MetadataCatalog.get("ade20k_full_sem_seg_freq_val_all").seen_classes
    assert "sofa, couch, lounge" in full  # "couch" there


def test_can_be_registered_again_and_elsewhere(root, tmp_path):
    register_datasets(tmp_path)
    register_datasets(tmp_path / "other")
    assert MetadataCatalog.get("scenes_val_sem_seg").image_root == str(
        tmp_path / "other/scenes/val"
    )


def test_root_of_the_environment(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    register_datasets()
    assert MetadataCatalog.get("scenes_val_sem_seg").image_root == str(tmp_path / "sets/scenes/val")


def test_pairs(root):
    for benchmark in BENCHMARKS:
        put(root, benchmark, ["b", "a"], ["a", "b"])
        records = DatasetCatalog.get(benchmark.name)
        assert [r["file_name"] for r in records] == [
            str(root / benchmark.images / f"{stem}.jpg") for stem in "ab"
        ]
        assert records[0]["sem_seg_file_name"] == str(
            root / benchmark.labels / f"a{benchmark.label_suffix}"
        )


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_missing_folders_name_folder_and_tool(root, benchmark):
    with pytest.raises(FileNotFoundError, match="does not exist") as error:
        DatasetCatalog.get(benchmark.name)
    assert str(root / benchmark.images) in str(error.value)
    assert f"tools/{benchmark.made_by}" in str(error.value)
    put(root, benchmark, ["a"], [])
    with pytest.raises(FileNotFoundError, match="holds none") as error:
        DatasetCatalog.get(benchmark.name)
    assert str(root / benchmark.labels) in str(error.value)


def test_files_without_partner_are_named(root):
    by_name = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    put(root, by_name["ade20k_150_test_sem_seg"], ["a", "b"], ["a"])
    with pytest.raises(FileNotFoundError, match=r"lacks the label maps of 1 images.*: b\.png"):
        DatasetCatalog.get("ade20k_150_test_sem_seg")
    put(root, by_name["context_459_test_sem_seg"], ["a"], ["a", "c"])
    with pytest.raises(FileNotFoundError, match=r"lacks the images of 1 label maps.*: c\.jpg"):
        DatasetCatalog.get("context_459_test_sem_seg")
    # The folder of images holds those of other parts too.
    put(root, by_name["voc_2012_test_sem_seg"], ["a", "b"], ["a"])
    assert len(DatasetCatalog.get("voc_2012_test_sem_seg")) == 1


def test_scenes_vocabularies_are_those_of_the_built_in_world():
    world = Vocabulary.from_dict(vocabulary())
    assert load_vocabulary("scenes").categories == world.categories
    base = [(c.id, c.name) for c in (*BASE_CATEGORIES, *STUFF_CATEGORIES)]
    assert [(c.id, c.name) for c in load_vocabulary("scenes_base").categories] == base


def test_voc20b_is_voc_and_the_rest_of_pascal_context():
    names = load_vocabulary("voc20b").names
    assert names[:20] == load_vocabulary("voc20").names
    assert sorted(names) == sorted(load_vocabulary("pc59").names)


def test_scenes_training_labels_are_base_classes(root):
    make_scenes(root / "scenes", images=6, val_images=2, size=48)
    metadata = MetadataCatalog.get("scenes_train_base_sem_seg")
    names = metadata.stuff_classes
    everything = MetadataCatalog.get("scenes_val_sem_seg").stuff_classes
    assert (len(names), len(everything)) == (30, 42)
    assert set(everything) - set(names) == {c.name for c in _novel()}
    novel = 0
    for record in DatasetCatalog.get("scenes_train_base_sem_seg"):
        with Image.open(record["sem_seg_file_name"]) as image:
            stored = np.asarray(image)
        labels = read_label_map(
            record["sem_seg_file_name"],
            num_classes=30,
            ignore_label=255,
            label_map=record["label_map"],
        )
        for value in np.unique(stored):
            expected = names.index(everything[value]) if everything[value] in names else 255
            novel += expected == 255
            assert set(labels[stored == value]) == {expected}
    assert novel
    assert all("label_map" not in r for r in DatasetCatalog.get("scenes_val_sem_seg"))


def _novel():
    return [c for c in load_vocabulary("scenes").categories if c.split == "novel"]


def config(train=(), test=(), train_list="coco_stuff171", test_list="ade150"):
    cfg = get_cfg()
    add_cat_seg_config(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = train_list
    cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = test_list
    return cfg


def test_class_lists_that_fit():
    check_class_lists(config(["coco_2017_train_stuff_all_sem_seg"], ["ade20k_150_test_sem_seg"]))
    background = ["voc_2012_test_background_sem_seg"]
    for names in ("voc20", "voc20b"):
        check_class_lists(config(test=background, test_list=names))


def test_class_lists_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"TRAIN_CLASS_JSON: voc20 has 20 names.*171 classes"):
        check_class_lists(config(["coco_2017_train_stuff_all_sem_seg"], train_list="voc20"))
    with pytest.raises(ValueError, match=r"TEST_CLASS_JSON: pc59 has 59 names.*150 classes"):
        check_class_lists(config(test=["ade20k_150_test_sem_seg"], test_list="pc59"))
    with pytest.raises(ValueError, match=r"DATASETS\.TEST: data set 'nothing' is not registered"):
        check_class_lists(config(test=["nothing"]))
    cfg = config(["ade20k_full_sem_seg_freq_val_all"], train_list="ade847")
    with pytest.raises(ValueError, match="marks ignored pixels with 65535"):
        check_class_lists(cfg)


@pytest.mark.parametrize("order", ["reversed", "sorted", "two swapped"])
def test_a_list_in_another_order_is_refused(tmp_path, order):
    names = list(load_vocabulary("voc20").names)
    names[3] = "a barge"  # wording is free
    if order == "two swapped":
        names[7], names[11] = names[11], names[7]
    else:
        names = names[::-1] if order == "reversed" else sorted(names, key=lambda name: name[::-1])
    (tmp_path / "mine.json").write_text(json.dumps(names))
    cfg = config(test=["voc_2012_test_sem_seg"], test_list=str(tmp_path / "mine.json"))
    with pytest.raises(ValueError, match=r"mine\.json has \d+ names .* in another order") as error:
        check_class_lists(cfg)
    if order == "two swapped":
        assert "'dog' is number 8 of the list and class 12" in str(error.value)


def test_a_list_with_other_words_fits(tmp_path):
    names = [f"a kind of {name}" for name in load_vocabulary("voc20").names]
    names[0] = "airplane"
    (tmp_path / "mine.txt").write_text("\n".join(names))
    check_class_lists(config(test=["voc_2012_test_sem_seg"], test_list=str(tmp_path / "mine.txt")))
