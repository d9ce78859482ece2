"""Labels, splits and checks of the detection data sets."""

import json

import pytest
from PIL import Image

pytest.importorskip("mmdet")

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from detection.datasets import (
    LoadOrientedImage,
    OpenVocabularyCocoDataset,
    OpenVocabularyLVISDataset,
    RehearsedDataset,
)
from fineclip.engine import load_config
from fineclip.images import UnusableImageError
from fineclip.scenes import make_scenes

VOCABULARY = {
    "name": "zoo",
    "categories": [
        {"name": "cat", "split": "base"},
        {"name": "dog", "split": "novel"},
        {"name": "owl", "split": "base"},
    ],
    "unused_categories": [{"name": "rock"}],
}


def annotation(index, image_id, category_id, **more):
    box = [10.0, 10.0, 20.0, 30.0]
    return {
        "id": index,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": 600.0,
        "iscrowd": 0,
        **more,
    }


def zoo():
    """Categories in another order than the vocabulary's; image 3 has novel boxes only."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in (1, 2, 3, 4)
        ],
        "categories": [
            {"id": 8, "name": "owl"},
            {"id": 3, "name": "rock"},
            {"id": 5, "name": "cat"},
            {"id": 6, "name": "dog"},
        ],
        "annotations": [
            annotation(1, 1, 8),
            annotation(2, 1, 5),
            annotation(3, 2, 6),
            annotation(4, 2, 8, iscrowd=1),
            annotation(5, 3, 6),
            annotation(6, 4, 3),
        ],
    }


@pytest.fixture
def make(tmp_path):
    def make(data, cls=OpenVocabularyCocoDataset, **options):
        text = data if isinstance(data, str) else json.dumps(data)
        (tmp_path / "zoo.json").write_text(text)
        options = {"vocabulary": VOCABULARY, "test_mode": True, **options}
        return cls(ann_file="zoo.json", data_root=str(tmp_path), pipeline=[], **options)

    return make


def labels(dataset):
    data = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {d["img_id"]: [instance["bbox_label"] for instance in d["instances"]] for d in data}


def test_labels_follow_the_vocabulary_not_the_file(make):
    dataset = make(zoo())
    assert labels(dataset) == {1: [2, 0], 2: [1, 2], 3: [1], 4: []}
    assert dataset.metainfo["classes"] == ("cat", "dog", "owl")
    assert dataset.metainfo["base_classes"] == ("cat", "owl")
    assert dataset.metainfo["novel_classes"] == ("dog",)
    assert len(dataset.metainfo["palette"]) == 3
    first = dataset.get_data_info(0)
    assert first["instances"][0]["bbox"] == [10, 10, 30, 40]  # xyxy
    assert [i["ignore_flag"] for i in dataset.get_data_info(1)["instances"]] == [0, 1]
    assert isinstance(dataset, CocoDataset)


def test_base_only_leaves_no_novel_box(make):
    dataset = make(zoo(), base_only=True, test_mode=False, filter_cfg={"filter_empty_gt": True})
    assert labels(dataset) == {1: [2, 0], 2: [2]}
    assert dataset.metainfo["novel_classes"] == ("dog",)


def test_training_files_may_list_base_classes_alone(make):
    data = zoo()
    data["categories"] = [c for c in data["categories"] if c["name"] in ("cat", "owl")]
    data["annotations"] = [a for a in data["annotations"] if a["category_id"] in (5, 8)]
    assert labels(make(data)) == {1: [2, 0], 2: [2], 3: [], 4: []}


def test_a_listed_category_without_boxes_need_not_be_known(make):
    data = zoo()
    data["categories"].append({"id": 99, "name": "unicorn"})
    assert len(make(data)) == 4


def test_without_a_vocabulary_the_file_decides_in_ascending_ids(make):
    data = zoo()
    data["categories"][3]["split"] = "novel"
    dataset = make(data, vocabulary=None)
    assert dataset.metainfo["classes"] == ("rock", "cat", "dog", "owl")
    assert dataset.metainfo["novel_classes"] == ("dog",)
    assert labels(dataset)[1] == [3, 1]


def test_names_alone_are_a_vocabulary(make):
    dataset = make(zoo(), vocabulary=["owl", "cat", "dog", "rock"])
    assert labels(dataset)[1] == [0, 1]
    assert dataset.metainfo["base_classes"] == ()


def test_a_named_vocabulary_needs_no_annotation_file():
    # what mmdet's init_detector does to learn the classes
    dataset = OpenVocabularyCocoDataset(vocabulary="ov_coco", ann_file="nowhere", lazy_init=True)
    assert len(dataset.metainfo["classes"]) == 65
    assert len(dataset.metainfo["base_classes"]) == 48
    assert "airplane" in dataset.metainfo["novel_classes"]


def lvis_zoo():
    data = zoo()
    for image in data["images"]:
        image["coco_url"] = f"http://host/val2017/{image.pop('file_name')}"
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in data["categories"]:
        category["frequency"] = "f"
    for item in data["annotations"]:
        del item["iscrowd"]
    return data


def test_lvis_takes_paths_from_addresses(make, tmp_path):
    dataset = make(lvis_zoo(), OpenVocabularyLVISDataset)
    assert labels(dataset)[1] == [2, 0]
    assert dataset.get_data_info(0)["img_path"] == str(tmp_path / "val2017" / "1.jpg")
    assert isinstance(dataset, LVISV1Dataset)


def test_lvis_vocabulary():
    meta = OpenVocabularyLVISDataset(vocabulary="lvis_v1", ann_file="x", lazy_init=True).metainfo
    assert (len(meta["classes"]), len(meta["novel_classes"])) == (1203, 337)


def without(data, key, place=None):
    del (data if place is None else data[place][0])[key]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (without(zoo(), "categories"), "with the list 'categories'"),
        ({**zoo(), "categories": []}, "categories: the list is empty"),
        ({**zoo(), "categories": {"cat": 1}}, "categories: expected a list, got dict"),
        (without(zoo(), "images"), "with the list 'images'"),
        ({**zoo(), "annotations": {}}, "annotations: expected a list"),
        (without(zoo(), "bbox", "annotations"), r"annotations\[0\]: missing key 'bbox'"),
        (without(zoo(), "file_name", "images"), r"images\[0\]: missing key 'file_name'"),
        (without(zoo(), "name", "categories"), r"categories\[0\]: missing key 'name'"),
        (
            {**zoo(), "annotations": [annotation(1, 1, 99)]},
            r"annotations\[0\]: category_id 99 is not among the file's categories",
        ),
        ("{", "not valid JSON"),
        ("[]", "a JSON object"),
    ],
)
def test_malformed_files_name_file_and_key(make, data, message):
    with pytest.raises(ValueError, match=message) as error:
        make(data)
    assert "zoo.json" in str(error.value)


def test_images_that_cannot_be_read_are_named(make, tmp_path):
    dataset = make(zoo())
    dataset.pipeline = Compose([LoadOrientedImage()])
    with pytest.raises(UnusableImageError, match=r"1\.jpg: no such file"):
        dataset.prepare_data(0)
    (tmp_path / "1.jpg").write_bytes(b"no image")
    with pytest.raises(UnusableImageError, match=r"1\.jpg: cannot be decoded"):
        dataset.prepare_data(0)
    Image.new("RGB", (7, 5)).save(tmp_path / "1.jpg")
    with pytest.raises(UnusableImageError, match=r"1\.jpg: is 7 x 5 pixels, .* say 64 x 64"):
        dataset.prepare_data(0)
    Image.new("RGB", (64, 64)).save(tmp_path / "1.jpg")
    assert dataset[0]["img"].shape == (64, 64, 3)


@pytest.fixture
def batches(make, tmp_path):
    """Yields the batches of four images of which one, or each, is missing."""

    def load(workers, present=(1, 3, 4), **options):
        for number in present:
            Image.new("RGB", (64, 64), (9 * number, 0, 0)).save(tmp_path / f"{number}.jpg")
        dataset = make(zoo(), **options)
        steps = [LoadOrientedImage(), LoadAnnotations(with_bbox=True), PackDetInputs()]
        dataset.pipeline = Compose(steps)
        return DataLoader(dataset, 2, num_workers=workers, collate_fn=pseudo_collate)

    return load


@pytest.mark.parametrize("workers", [0, 2])
def test_in_training_another_image_takes_the_place_and_says_so(batches, tmp_path, workers):
    found = [sample for b in batches(workers, test_mode=False) for sample in b["data_samples"]]
    assert ["skipped" in sample.metainfo for sample in found] == [False, True, False, False]
    assert found[1].skipped[0] == (str(tmp_path / "2.jpg"), "no such file")
    assert [sample.img_id for sample in found][::2] == [1, 3] and found[1].img_id != 2


@pytest.mark.parametrize("workers", [0, 2])
def test_training_without_any_image_is_an_error(batches, workers):
    with pytest.raises(UnusableImageError, match=r"jpg: no such file \(nor can 99 others"):
        next(iter(batches(workers, present=(), test_mode=False)))


def test_in_evaluation_a_black_image_takes_the_place_and_says_so(batches, tmp_path):
    batch = next(iter(batches(0)))
    first, second = batch["data_samples"]
    assert "skipped" not in first.metainfo and len(first.gt_instances) == 2
    assert second.skipped == [(str(tmp_path / "2.jpg"), "no such file")]
    assert second.img_id == 2 and len(second.gt_instances) == 0
    assert not batch["inputs"][1].any()


def test_missing_file(tmp_path):
    for vocabulary in ("ov_coco", None):
        with pytest.raises(FileNotFoundError, match=r"none\.json"):
            OpenVocabularyCocoDataset(
                vocabulary=vocabulary, data_root=str(tmp_path), ann_file="none.json"
            )


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (["cat", "owl", "rock"], r"lacks 1 annotated categories \('dog'\).*'unused_categories'"),
        ("voc20", "'voc20' lacks 2 annotated categories"),
        (["cat", "cat"], r"categories\[0\] and categories\[1\] are both 'cat'"),
        ("ov_cocoo", "unknown vocabulary 'ov_cocoo'"),
    ],
)
def test_vocabulary_must_fit(make, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        make(zoo(), vocabulary=vocabulary)


def test_a_vocabulary_of_something_else(make):
    data = {**zoo(), "annotations": []}
    with pytest.raises(ValueError, match=r"shares no class.*'owl' and 3 more"):
        make(data, vocabulary=["sofa"])


def test_coco_annotations_are_no_lvis_annotations(make):
    with pytest.raises(ValueError, match="missing key 'frequency'"):
        make(zoo(), OpenVocabularyLVISDataset)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=6, val_images=2, size=64)
    return folder


def test_scenes_config_yields_batches(scenes):
    config = load_config(
        "configs/detection/scenes_fvit.py",
        {"data_root": str(scenes), "image_size": 64},
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        train = DATASETS.build(config.train_dataloader.dataset)
        val = DATASETS.build(config.val_dataloader.dataset)
    assert train.metainfo["classes"] == val.metainfo["classes"]
    assert len(val) == 2
    novel = {train.metainfo["classes"].index(name) for name in train.metainfo["novel_classes"]}
    assert len(novel) == 12
    for index in range(len(train)):
        item = train[index]
        assert item["inputs"].shape == (3, 64, 64)
        found = set(item["data_samples"].gt_instances.labels.tolist())
        assert found
        assert not found & novel
    boxes = json.loads((scenes / "annotations" / "instances_val.json").read_text())["annotations"]
    shown = sum(len(val[index]["data_samples"].gt_instances) for index in range(2))
    assert shown == len(boxes)


def test_scenes_in_lvis_format(scenes):
    dataset = OpenVocabularyLVISDataset(
        vocabulary="scenes_things",
        data_root=str(scenes),
        ann_file="annotations/lvis_val.json",
        test_mode=True,
        pipeline=[{"type": "mmdet.LoadImageFromFile"}],
    )
    assert dataset[0]["img"].shape == (64, 64, 3)


def test_rehearsed_images_come_after_ones_own_and_anew_in_each_epoch():
    def listed(name, size):
        return [f"{name} {place}" for place in range(size)]

    class Keyed(list):
        """Samples that note under which key they were asked for."""

        def __getitem__(self, key):
            return key if isinstance(key, int) else (super().__getitem__(key[1]), key[0])

    dataset = RehearsedDataset(Keyed(listed("own", 6)), Keyed(listed("old", 90)), share=0.5, seed=3)
    assert len(dataset) == 12
    epochs = [[dataset[epoch, place] for place in range(12)] for epoch in (0, 1)]
    assert [name for name, _ in epochs[1][:6]] == listed("own", 6)
    assert all(name.startswith("old") and epoch == 1 for name, epoch in epochs[1][6:])
    assert epochs[0][6:] != epochs[1][6:]
    assert epochs[1] == [dataset[1, place] for place in range(12)]


def test_samples_say_which_classes_were_labelled(make):
    dataset = make(zoo(), labelled=["owl", "cat"], test_mode=False)
    dataset.pipeline = lambda info: {"data_samples": DetDataSample()}
    assert dataset[0]["data_samples"].metainfo["labelled"] == (2, 0)
    with pytest.raises(ValueError, match="labelled: 'wolf' is no class of 'zoo'"):
        make(zoo(), labelled=["wolf"])
