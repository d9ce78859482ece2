"""Preparing segmentation data: made-up downloads in every layout, and what is wrong with them."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from fineclip.datasets.label_maps import read_label_map
from fineclip.datasets.segmentation import find_benchmark
from fineclip.text import load_vocabulary
from segmentation.data import preparation
from segmentation.data.pascal_context import prepare_pascal_context

RANDOM = np.random.default_rng(0)
IMAGES = {
    "coco-stuff": "coco-stuff/images/val2017",
    "ade150": "ADEChallengeData2016/images/validation",
    "ade847": "ADE20K_2021_17_01/images_detectron2/validation",
    "pc59": "VOCdevkit/VOC2010/JPEGImages",
    "pc459": "VOCdevkit/VOC2010/JPEGImages",
    "voc20": "VOCdevkit/VOC2012/JPEGImages",
    "voc21": "VOCdevkit/VOC2012/JPEGImages",
}
"""Folders of images, by the names of evaluate_clip.py --benchmark."""


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / "coco-stuff/annotations"
    for split, i in itertools.product(("train2017", "val2017"), range(3)):
        save(folder / split / f"{i}.png", np.uint8([[0, 12, 90], [181, 255, 11]]))
    (folder / "train2017" / "._0.png").write_text("left by an operating system")
    return tmp_path


def test_coco_stuff(coco):
    folders = preparation.prepare_coco_stuff(coco)
    names = load_vocabulary("coco_stuff171").names
    assert [(f.written, f.kept) for f in folders] == [(3, 0), (3, 0)]
    made = coco / "coco-stuff/annotations_detectron2"
    assert listing(made) == [f"{s}/{i}.png" for s in ("train2017", "val2017") for i in range(3)]
    labels = load(made / "val2017/2.png")
    # 11 was never used; 90 is id 91, "hat", which COCO-Stuff lacks.
    assert labels.tolist() == [[0, names.index("stop sign"), 255], [170, 255, 255]]
    assert labels.dtype == np.uint8


def test_ade20k_150(tmp_path):
    folder = tmp_path / "ADEChallengeData2016"
    save(folder / "annotations/validation/a.png", np.uint8([[0, 1, 150]]))
    (prepared,) = preparation.prepare_ade20k_150(tmp_path)
    assert prepared.folder == folder / "annotations_detectron2/validation"
    assert load(prepared.folder / "a.png").tolist() == [[255, 0, 149]]


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    save(folder / "SegmentationClassAug/a.png", np.uint8([[0, 1, 20, 255]]))
    save(folder / "SegmentationClassAug/b.png", np.uint8([[0, 255]]))
    save(folder / "SegmentationClassAug/not-listed.png", np.uint8([[1]]))
    return tmp_path


def test_voc20(voc):
    objects, background = preparation.prepare_voc20(voc)
    assert (objects.written, objects.left_out) == (1, 1)
    assert (background.written, background.left_out) == (2, 0)
    assert listing(objects.folder) == ["a.png"]
    assert listing(background.folder) == ["a.png", "b.png"]
    assert load(objects.folder / "a.png").tolist() == [[255, 0, 19, 255]]
    assert load(background.folder / "a.png").tolist() == [[20, 0, 19, 255]]
    assert load(background.folder / "b.png").tolist() == [[20, 255]]


@pytest.fixture
def ade847(tmp_path):
    """Two images: a small one, and one to be shrunk."""
    folder = tmp_path / "ADE20K_2021_17_01/images/ADE/validation"
    ids = {"a": np.array([[2978, 312], [3148, 0], [1, 4095]]), "b": np.full((1024, 1536), 2420)}
    ids["b"][:, 769:] = 689  # in the middle of what becomes one pixel
    for (name, values), scene in zip(ids.items(), ("urban/street", "home/attic"), strict=True):
        colors = np.stack([values // 256 * 10 + 3, values % 256, values % 7], -1).astype(np.uint8)
        save(folder / scene / f"{name}_seg.png", colors)
        save(folder / scene / f"{name}_parts_1.png", colors)
        save(folder / scene / f"{name}.jpg", np.full((*values.shape, 3), 90, np.uint8))
        save(folder / scene / name / f"instance_000_{name}.png", np.uint8([[1]]))
    return tmp_path


def test_ade20k_847(ade847):
    (prepared,) = preparation.prepare_ade20k_847(ade847)
    folder = ade847 / "ADE20K_2021_17_01"
    assert prepared.folder == folder / "annotations_detectron2/validation"
    assert listing(prepared.folder) == ["a.tif", "b.tif"]
    assert listing(folder / "images_detectron2/validation") == ["a.jpg", "b.jpg"]
    labels = load(prepared.folder / "a.tif")
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[0, 1], [846, 65535], [65535, 65535]]
    labels = load(prepared.folder / "b.tif")
    assert labels.shape == (512, 768)
    assert (labels[:, :385] == 2).all() and (labels[:, 385:] == 40).all()
    assert load(folder / "images_detectron2/validation/b.jpg").shape == (512, 768, 3)
    assert load(folder / "images_detectron2/validation/a.jpg").shape == (3, 2, 3)


def rle(mask):
    code = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode()}


def context_json(folder, segments, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    image = {"image_id": 1, "file_name": "a.jpg", "height": 2, "width": 3, "phase": "val"}
    data = {
        "images": [
            {**image, **changes},
            {**image, "image_id": 2, "file_name": "t.jpg", "phase": "train"},
        ],
        "annos_segmentation": [
            {"image_id": i, "category_id": c, "segmentation": s} for i, c, s in segments
        ],
    }
    (folder / "trainval_merged.json").write_text(json.dumps(data))


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2010"
    everything, left = rle([[1, 1, 1], [1, 1, 1]]), rle([[1, 0, 0], [1, 0, 0]])
    corner = rle([[0, 0, 1], [0, 0, 0]])
    polygon = [[1, 1, 2, 1, 2, 2, 1, 2]]  # the pixel in the middle below
    segments = [(1, 458, everything), (1, 2, left), (1, 3, corner), (1, 397, polygon)]
    context_json(folder, [*segments, (2, 2, everything)])
    return tmp_path


def save_mat(path, **content):
    path.parent.mkdir(exist_ok=True)
    # Of the environment with everything alone, as is what reads it.
    pytest.importorskip("scipy.io").savemat(path, content)


@pytest.fixture
def context_459(context):
    folder = context / "VOCdevkit/VOC2010/trainval"
    save_mat(folder / "a.mat", LabelMap=np.uint16([[1, 459, 0], [2, 3, 4]]))
    return context


def test_pascal_context_59(context):
    (prepared,) = prepare_pascal_context(context, classes=[59])
    names = load_vocabulary("pc59").names
    wood, table = names.index("wood"), names.index("diningtable")
    assert listing(prepared.folder) == ["a.png"]
    # Later segments cover earlier ones, those of other classes as well.
    assert load(prepared.folder / "a.png").tolist() == [[0, wood, 255], [0, table, wood]]
    uncompressed = {"size": [2, 3], "counts": [0, 6]}
    context_json(context / "VOCdevkit/VOC2010", [(1, 2, uncompressed)], file_name="u.jpg")
    prepare_pascal_context(context, classes=[59])
    assert (load(prepared.folder / "u.png") == 0).all()


def test_pascal_context_459(context_459):
    context = context_459
    (prepared,) = prepare_pascal_context(context, classes=[459])
    labels = load(prepared.folder / "a.tif")
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[0, 458, 459], [1, 2, 3]]
    # The release's list of images, where it is.
    folder = context / "VOCdevkit/VOC2010"
    (folder / "trainval_merged.json").unlink()
    (folder / "pascalcontext_val.txt").write_text("b\n")
    save_mat(folder / "trainval/b.mat", LabelMap=np.uint8([[5]]))
    prepare_pascal_context(context, classes=[459])
    assert listing(prepared.folder) == ["a.tif", "b.tif"]


def test_what_is_there_is_kept(coco):
    preparation.prepare_coco_stuff(coco)
    made = coco / "coco-stuff/annotations_detectron2"
    (made / "train2017/1.png").unlink()
    (made / "train2017/0.png").write_text("mine")
    seen = []
    folders = preparation.prepare_coco_stuff(coco, progress=lambda *numbers: seen.append(numbers))
    assert [(f.written, f.kept) for f in folders] == [(1, 2), (0, 3)]
    assert (made / "train2017/0.png").read_text() == "mine"
    assert (made / "train2017/1.png").is_file()
    assert seen == [(3, 3), (3, 3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_preparation_goes_on_and_is_not_taken_for_a_whole(coco, workers):
    source = coco / "coco-stuff/annotations/val2017"
    made = coco / "coco-stuff/annotations_detectron2"
    save(source / "2.png", np.uint8([[190]]))
    with pytest.raises(ValueError, match=r"2\.png holds 190, which the data set does not use"):
        preparation.prepare_coco_stuff(coco, splits=["val2017"], workers=workers)
    assert not (made / "val2017").exists()
    assert listing(made) == ["val2017.incomplete/0.png", "val2017.incomplete/1.png"]
    save(source / "2.png", np.uint8([[0]]))
    (prepared,) = preparation.prepare_coco_stuff(coco, splits=["val2017"], workers=workers)
    assert (prepared.written, prepared.kept) == (1, 2)
    assert listing(made) == [f"val2017/{i}.png" for i in range(3)]
    assert not (made / "val2017.incomplete").exists()


def test_workers_make_the_same(ade847, voc, context_459):
    root = ade847  # the fixtures share one folder
    for prepare in (
        preparation.prepare_ade20k_847,
        preparation.prepare_voc20,
        prepare_pascal_context,
    ):
        alone = {f.folder: read(f.folder) for f in prepare(root)}
        for folder in alone:
            folder.rename(folder.with_name(f"{folder.name}-before"))
        together = {f.folder: read(f.folder) for f in prepare(root, workers=2)}
        assert alone == together
        for folder in alone:
            for file in folder.with_name(f"{folder.name}-before").iterdir():
                file.unlink()
            folder.with_name(f"{folder.name}-before").rmdir()


def test_evaluations_by_name_find_what_is_made(coco, voc, ade847, context_459):
    root = coco  # the fixtures share one folder
    save(root / "ADEChallengeData2016/annotations/validation/a.png", np.uint8([[0, 1, 150]]))
    made = [
        *preparation.prepare_coco_stuff(root, splits=["val2017"]),
        *preparation.prepare_ade20k_150(root),
        *preparation.prepare_ade20k_847(root),
        *prepare_pascal_context(root),
        *preparation.prepare_voc20(root),
    ]
    for prepared, (name, images) in zip(made, IMAGES.items(), strict=True):
        for label in prepared.folder.iterdir():
            save(root / images / f"{label.stem}.jpg", np.zeros((1, 1, 3), np.uint8))
        files = find_benchmark(name, root)
        assert {label.parent for _, label in files.pairs} == {prepared.folder}
        for _, label in files.pairs:
            found = read_label_map(
                label, num_classes=files.num_classes, ignore_label=files.ignore_label
            )
            assert (found == load(label)).all()
        assert files.background == (20 if name == "voc21" else None)
        assert len(files.prompts) == (59 if name == "voc21" else files.num_classes)


def read(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bad_label_maps_are_named(tmp_path, voc):
    ade = tmp_path / "ADEChallengeData2016/annotations/validation"
    for values, message in (
        (np.uint8([[151]]), r"a\.png holds 151"),
        (np.uint16([[1000]]), r"a\.png holds 1000"),
        (np.zeros((2, 2, 3), np.uint8), r"a\.png has pixels of type RGB"),
    ):
        save(ade / "a.png", values)
        with pytest.raises(ValueError, match=message):
            preparation.prepare_ade20k_150(tmp_path)
    (ade / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png: cannot be decoded"):
        preparation.prepare_ade20k_150(tmp_path)
    save(voc / "VOCdevkit/VOC2012/SegmentationClassAug/a.png", np.uint8([[21]]))
    with pytest.raises(ValueError, match=r"a\.png holds 21"):
        preparation.prepare_voc20(voc)


def test_bad_ade20k_847(ade847):
    folder = ade847 / "ADE20K_2021_17_01/images/ADE/validation"
    (folder / "urban/street/a_seg.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a_seg\.png beside it, like 1 of 2 images"):
        preparation.prepare_ade20k_847(ade847)
    save(folder / "urban/street/a_seg.png", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a_seg\.png has 4 x 5 pixels, its image 2 x 3"):
        preparation.prepare_ade20k_847(ade847)
    save(folder / "home/attic/a.jpg", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"several images of the name a\.jpg"):
        preparation.prepare_ade20k_847(ade847)


def test_bad_matrices(context_459):
    file = context_459 / "VOCdevkit/VOC2010/trainval/a.mat"
    save_mat(file, LabelMap=np.uint16([[460]]))
    with pytest.raises(ValueError, match=r"a\.mat holds labels from 460 to 460"):
        prepare_pascal_context(context_459, classes=[459])
    save_mat(file, Other=np.uint16([[1]]))
    with pytest.raises(ValueError, match=r"a\.mat holds no map of the name 'LabelMap'"):
        prepare_pascal_context(context_459, classes=[459])
    file.write_text("no matrix")
    with pytest.raises(ValueError, match=r"a\.mat cannot be read"):
        prepare_pascal_context(context_459, classes=[459])


def test_all_files_are_looked_for_before_any_is_made(context):
    with pytest.raises(FileNotFoundError, match=r"VOC2010/trainval does not exist"):
        prepare_pascal_context(context)
    assert listing(context / "VOCdevkit/VOC2010") == ["trainval_merged.json"]


def test_bad_pascal_context(context):
    folder = context / "VOCdevkit/VOC2010"
    for segments, changes, message in (
        ([(1, 2, rle([[1]]))], {}, "image a: a segment has 1 x 1 pixels, the image 3 x 2"),
        ([(1, 2, {"counts": 3})], {}, "image a: a segmentation cannot be decoded"),
        ([], {"phase": "test"}, 'no image has the phase "val"'),
    ):
        context_json(folder, segments, **changes)
        with pytest.raises(ValueError, match=message):
            prepare_pascal_context(context, classes=[59])
    (folder / "trainval_merged.json").write_text("[]")
    with pytest.raises(ValueError, match=r"trainval_merged\.json: expected a JSON object"):
        prepare_pascal_context(context, classes=[59])


def coded(folder, change, count=8):
    """Label maps of all ids that COCO-Stuff has, changed, in which only some pixels have each."""
    ids = np.array(load_vocabulary("coco_stuff171").required_ids)
    for i in range(count):
        values = np.append(change(ids), change(ids)[:1]).reshape(4, -1)
        save(folder / f"{i}.png", values.astype(np.uint8))


CODINGS = {
    "from 1": (lambda ids: ids, r"count from 1 \(0 is unlabelled\): subtract 1"),
    "from 1, without the last": (lambda ids: np.minimum(ids, 90), "count from 1"),
    "classes": (lambda ids: np.arange(171), r"class indices \(0 to 170\) already"),
    "some classes": (lambda ids: np.arange(171) // 2, "class indices"),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_coco_stuff_in_another_coding_is_refused(tmp_path, coding):
    change, message = CODINGS[coding]
    folder = tmp_path / "coco-stuff/annotations/val2017"
    coded(folder, change)
    with pytest.raises(ValueError, match=message) as error:
        preparation.prepare_coco_stuff(tmp_path, splits=["val2017"])
    assert str(folder) in str(error.value) and "8 of 8" in str(error.value)
    assert not (tmp_path / "coco-stuff/annotations_detectron2").exists()
    coded(folder, lambda ids: ids - 1)
    (prepared,) = preparation.prepare_coco_stuff(tmp_path, splits=["val2017"])
    assert prepared.written == 8
    assert np.unique(load(prepared.folder / "0.png")).tolist() == list(range(171))


@pytest.mark.parametrize(
    "place", ["coco-stuff/stuffthingmaps", "coco/stuffthingmaps", "stuffthingmaps_trainval2017"]
)
def test_coco_stuff_is_found_where_archives_leave_it(tmp_path, place):
    save(tmp_path / place / "val2017/7.png", np.uint8([[0]]))
    (prepared,) = preparation.prepare_coco_stuff(tmp_path, splits=["val2017"])
    assert prepared.folder == tmp_path / "coco-stuff/annotations_detectron2/val2017"
    assert prepared.written == 1


def test_the_source_can_be_named(tmp_path, voc):
    with pytest.raises(FileNotFoundError, match=r"looked in 7 other places\).*--source"):
        preparation.prepare_coco_stuff(tmp_path, splits=["val2017"])
    save(tmp_path / "else/where/val2017/7.png", np.uint8([[0]]))
    for folder, outcome in (("else/where", (1, 0)), ("else/where/val2017", (0, 1))):
        (prepared,) = preparation.prepare_coco_stuff(
            tmp_path, splits=["val2017"], source=tmp_path / folder
        )
        assert (prepared.written, prepared.kept) == outcome
    labels = voc / "VOCdevkit/VOC2012/SegmentationClassAug"
    labels.rename(tmp_path / "maps")
    with pytest.raises(FileNotFoundError, match="--source"):
        preparation.prepare_voc20(voc)
    assert preparation.prepare_voc20(voc, source=tmp_path / "maps")[1].written == 2


def test_what_other_programs_put_beside_label_maps_is_left_alone(coco, tmp_path):
    folder = coco / "coco-stuff/annotations/val2017"
    for i in range(3):
        save(folder / f"{i}_labelTrainIds.png", np.uint8([[9]]))
        save(folder / f"{i}_color.png", np.zeros((2, 2, 3), np.uint8))
    (prepared,) = preparation.prepare_coco_stuff(coco, splits=["val2017"])
    assert listing(prepared.folder) == [f"{i}.png" for i in range(3)]
    for i in range(3):
        (folder / f"{i}.png").unlink()
        (folder / f"{i}_color.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.png of the download"):
        preparation.prepare_coco_stuff(coco, splits=["val2017"])


def test_images_without_a_label_map_are_counted(coco):
    for name in ("0", "1", "2", "3", "4"):
        save(coco / f"coco-stuff/images/val2017/{name}.jpg", np.zeros((2, 3, 3), np.uint8))
    train, val = preparation.prepare_coco_stuff(coco)
    assert (train.without_map, val.without_map) == (0, 2)
    assert str(val).endswith("3 label maps written, 0 kept, 2 images lack one")


def test_voc_s_own_label_maps_will_do(voc):
    folder = voc / "VOCdevkit/VOC2012"
    (folder / "SegmentationClassAug").rename(folder / "SegmentationClass")
    objects, background = preparation.prepare_voc20(voc)
    assert (objects.written, background.written) == (1, 2)
    # Where one of both lacks some, the other is taken.
    save(folder / "SegmentationClassAug/a.png", np.uint8([[5]]))
    assert preparation.prepare_voc20(voc)[1].kept == 2
    (folder / "SegmentationClass/b.png").unlink()
    (folder / "SegmentationClass/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Aug lacks 1 of 2 files, such as b\.png"):
        preparation.prepare_voc20(voc)


@pytest.mark.parametrize(
    "place",
    [
        "ADE20K_2021_17_01/ADE20K_2021_17_01/images/ADE/validation",
        "ADE20K_2016_07_26/images/validation",
    ],
)
def test_ade20k_847_in_other_places(ade847, place):
    (ade847 / place).parent.mkdir(parents=True)
    (ade847 / "ADE20K_2021_17_01/images/ADE/validation").rename(ade847 / place)
    (prepared,) = preparation.prepare_ade20k_847(ade847)
    assert listing(prepared.folder) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_label_maps_are_refused(coco, damage):
    file = coco / "coco-stuff/annotations/val2017/1.png"
    save(file, np.random.default_rng(0).integers(0, 11, (90, 90)).astype(np.uint8))
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"val2017/1\.png: cannot be decoded"):
        preparation.prepare_coco_stuff(coco)
