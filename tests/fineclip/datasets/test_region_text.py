import inspect
import json

import numpy as np
import pytest
import torch
from PIL import Image
from region_text import region_text_dataset

from fineclip.annotations import read_boxes
from fineclip.datasets import (
    AnnotationFiles,
    BoxRegions,
    EpochSampler,
    ImageReader,
    MultiCrop,
    RegionTextDataset,
    collate_region_text,
)

SIZE = 32


def characters(texts):
    """Stand-in tokenizer: character codes of the first four letters."""
    return torch.tensor([[ord(c) for c in text.ljust(4)[:4]] for text in texts])


@pytest.fixture
def folder(tmp_path):
    """Three images; boxes good, too small, outside; captions; region captions for some."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name, (width, height) in {"a.png": (80, 60), "b.png": (40, 40), "c.png": (50, 90)}.items():
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    write(
        tmp_path / "instances.json",
        {
            "images": [
                {"id": 1, "file_name": "a.png", "width": 80, "height": 60},
                {"id": 2, "file_name": "b.png", "width": 40, "height": 40},
                {"id": 3, "file_name": "c.png", "width": 50, "height": 90},
            ],
            "annotations": [
                {"id": 10, "image_id": 1, "category_id": 7, "bbox": [8, 6, 40, 30], "iscrowd": 0},
                {"id": 11, "image_id": 1, "category_id": 8, "bbox": [60, 40, 40.5, 40.5]},
                {"id": 12, "image_id": 1, "category_id": 8, "bbox": [1, 1, 7, 7]},
                {"id": 13, "image_id": 1, "category_id": 8, "bbox": [90, 0, 20, 20]},
                {"id": 14, "image_id": 1, "category_id": 7, "bbox": [0, 0, 80, 60], "iscrowd": 1},
                {"id": 20, "image_id": 3, "category_id": 8, "bbox": [0.9, 1.2, 30.7, 40.4]},
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
        },
    )
    write(
        tmp_path / "captions.json",
        {
            "annotations": [
                {"image_id": 1, "caption": "aaaa"},
                {"image_id": 1, "caption": "bbbb"},
                {"image_id": 2, "caption": "cccc"},
                {"image_id": 3, "caption": " dddd "},
            ]
        },
    )
    return tmp_path


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def make(folder, **options):
    if options.get("regions") != "GridRegions":
        options = {"category_caption": "{}", **options}
    return region_text_dataset(
        **{
            "image_root": folder / "images",
            "annotations": folder / "instances.json",
            "captions": folder / "captions.json",
            "tokenizer": characters,
            "transform": {"size": SIZE},
            **options,
        }
    )


def words(tokens):
    return ["".join(map(chr, row)).strip() for row in tokens.tolist()]


def test_sample_and_collate(folder):
    dataset = make(folder)
    assert len(dataset) == 3
    batch = collate_region_text([dataset[0, i] for i in range(3)])
    assert batch["images"].shape == (3, 3, SIZE, SIZE)
    assert batch["images"].dtype == torch.uint8
    # Image 2 has no boxes: regions are packed, nothing stands in for it.
    assert sorted(batch["region_image"].tolist()) == [0, 0, 2]
    assert batch["crops"].shape == (3, 3, SIZE, SIZE)
    found = {}
    for box, image, word in zip(
        batch["boxes"], batch["region_image"].tolist(), words(batch["region_texts"]), strict=True
    ):
        found[image, word] = box
    torch.testing.assert_close(found[0, "cat"], torch.tensor([0.1, 0.1, 0.6, 0.6]))
    # Sticks out of the image: cut to it.
    torch.testing.assert_close(found[0, "dog"], torch.tensor([60 / 80, 40 / 60, 1.0, 1.0]))
    assert batch["skipped"] == []
    assert words(batch["texts"])[1:] == ["cccc", "dddd"]
    assert words(batch["texts"])[0] in ("aaaa", "bbbb")


def test_what_is_left_out_is_counted(folder):
    dataset = make(folder)
    assert dataset.problems == {"box area out of range": 1}
    _, report = read_boxes(folder / "instances.json", labelled=False)
    (outside,) = (finding for finding in report.findings if finding.kind == "dropped")
    assert (outside.reason, outside.count) == ("box outside its image", 1)


@pytest.mark.parametrize("box", [[1, 2, 3], None, [1, 2, "x", 4]])
def test_malformed_boxes_are_refused(folder, box):
    data = json.loads((folder / "instances.json").read_text())
    data["annotations"][1]["bbox"] = box
    write(folder / "instances.json", data)
    with pytest.raises(ValueError, match=r"instances\.json: annotations\[1\]: 'bbox' must be four"):
        make(folder)


def test_area_limits_apply_to_the_box(folder):
    assert "box area out of range" not in make(folder, min_area=49).problems
    assert make(folder, max_area=1000).problems["box area out of range"] == 3


def test_crop_is_the_enlarged_box(folder):
    """A uniform square on black: enlarged 1.5 times about its centre it fills the middle."""
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[20:40, 30:50] = 255
    Image.fromarray(pixels).save(folder / "images" / "a.png")
    data = json.loads((folder / "instances.json").read_text())
    data["annotations"] = [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [30, 20, 20, 20]}]
    write(folder / "instances.json", data)
    tight = make(folder, crop_scale=1.0)[0, 0]["crops"][0]
    assert (tight[:, 2:-2, 2:-2] == 255).all()
    assert (tight > 127).all()
    wide = make(folder, crop_scale=1.5, transform={"size": 30})[0, 0]["crops"][0]
    white = (wide[0] > 127).nonzero()
    assert white.amin(0).tolist() == [5, 5]
    assert white.amax(0).tolist() == [24, 24]


def test_draws_depend_on_seed_epoch_and_index_alone(folder):
    first = [make(folder)[epoch, 0] for epoch in range(12)]
    again = [make(folder)[epoch, 0] for epoch in range(12)]
    for a, b in zip(first, again, strict=True):
        for name in ("texts", "boxes", "crops", "region_texts"):
            assert torch.equal(a[name], b[name])
    assert len({words(sample["texts"])[0] for sample in first}) == 2
    assert len({words(sample["region_texts"])[0] for sample in first}) == 2


def test_max_boxes_counts_usable_boxes(folder):
    for epoch in range(8):
        assert len(make(folder, max_boxes=1)[epoch, 0]["boxes"]) == 1


@pytest.mark.parametrize(("draw_by", "weights"), [("area", [1, 4, 16]), ("sqrt_area", [1, 2, 4])])
def test_boxes_are_drawn_in_proportion_to_their_size(draw_by, weights):
    """One after another, without replacement: exact probabilities, within four deviations."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 5.0, 5.0], [0.0, 2.0, 4.0, 18.0]])
    two, one = (BoxRegions(max_boxes=most, draw_by=draw_by) for most in (2, 1))
    counts, total = np.zeros((3, 3)), 600
    for number in range(total):
        drawn, chosen = two.draw(boxes, 20, 20, np.random.default_rng(number))
        assert torch.equal(drawn, boxes[chosen])
        counts[tuple(chosen.tolist())] += 1
        # Fewer boxes are among the more.
        first = one.draw(boxes, 20, 20, np.random.default_rng(number))[1]
        assert first.tolist() == chosen[:1].tolist()
    share = np.array(weights) / sum(weights)
    for first in range(3):
        for second in {0, 1, 2} - {first}:
            expected = share[first] * share[second] / (1 - share[first])
            deviation = np.sqrt(expected * (1 - expected) / total)
            assert abs(counts[first, second] / total - expected) < 4 * deviation


def test_how_boxes_are_drawn_changes_nothing_else(folder):
    """All boxes are drawn where there is room; draws depend on seed, epoch and index alone."""
    plain, sized = make(folder)[3, 0], make(folder, draw_by="area")[3, 0]
    assert torch.equal(plain["texts"], sized["texts"])
    assert sorted(plain["boxes"].tolist()) == sorted(sized["boxes"].tolist())
    again = make(folder, draw_by="area", max_boxes=1)[3, 0]
    assert torch.equal(again["boxes"], sized["boxes"][:1])
    with pytest.raises(ValueError, match="draw_by: expected 'uniform' or 'area' or 'sqrt_area'"):
        make(folder, draw_by="size")


def test_sampler_yields_epoch_and_index(folder):
    sampler = EpochSampler(make(folder), shuffle=True, seed=3)
    sampler.set_epoch(5)
    keys = list(sampler)
    assert {epoch for epoch, _ in keys} == {5}
    assert sorted(index for _, index in keys) == [0, 1, 2]


@pytest.mark.parametrize(
    "key", ["a.png_8_6_40_30.jpg", "a_8_6_40_30.jpg", "10"], ids=["name", "stem", "id"]
)
def test_region_captions_by_id_or_release_key(folder, key):
    captions = write(folder / "regions.json", {key: "furry", "c_0_1_30_40.jpg": "tall"})
    dataset = make(folder, region_captions=captions)
    assert words(dataset[0, 0]["region_texts"]) == ["furr"]
    assert words(dataset[0, 2]["region_texts"]) == ["tall"]
    assert dataset.problems["region without caption"] == 1


def test_undecodable_image_is_skipped_and_named(folder):
    (folder / "images" / "b.png").write_bytes(b"not an image")
    (folder / "images" / "c.png").unlink()
    dataset = make(folder)
    batch = collate_region_text([dataset[0, i] for i in range(3)])
    assert len(batch["images"]) == len(batch["texts"]) == 1
    assert set(batch["region_image"].tolist()) == {0}
    assert [file.rsplit("/", 1)[-1] for file, _ in batch["skipped"]] == ["b.png", "c.png"]
    # Nothing usable at all is still a batch.
    empty = collate_region_text([dataset[0, 1]])
    assert empty["images"].shape == (0, 3, SIZE, SIZE)
    assert empty["texts"].shape == (0, 4)
    assert empty["boxes"].shape == (0, 4)
    assert empty["crops"].shape == (0, 3, SIZE, SIZE)


def test_image_of_another_size_than_annotated_is_skipped(folder):
    Image.new("RGB", (41, 40)).save(folder / "images" / "b.png")
    ((_, reason),) = make(folder)[0, 1]["skipped"]
    assert "is 41 x 40 pixels, the annotations say 40 x 40" in reason


def test_image_without_caption_is_left_out(folder):
    data = json.loads((folder / "captions.json").read_text())
    data["annotations"] = data["annotations"][:2]
    write(folder / "captions.json", data)
    dataset = make(folder)
    assert len(dataset) == 1
    assert dataset.problems["image without caption"] == 2
    assert len(make(folder, fields=("boxes", "crops"), captions=None)) == 2


def test_only_what_is_asked_for_is_loaded(folder):
    assert set(make(folder, fields=("texts",))[0, 0]) == {"images", "texts", "skipped"}
    assert "crops" not in make(folder, fields=("boxes", "region_texts"))[0, 0]


def test_subset_is_drawn_by_seed(folder):
    texts = {"fields": ("texts",)}
    chosen = {
        words(make(folder, num_images=1, seed=seed, **texts)[0, 0]["texts"])[0]
        for seed in range(20)
    }
    assert len(chosen) > 1
    assert len(make(folder, num_images=2, **texts)) == 2


def test_subsets_are_nested(folder):
    """1K images are among the 100K of the same seed."""

    def chosen(number):
        return {words(make(folder, num_images=number)[0, i]["texts"])[0][0] for i in range(number)}

    assert chosen(1) < {"a", "b", "c", "d"}
    assert len(chosen(2) - chosen(1)) == 1


def test_grid_regions_are_cells_of_the_image(folder):
    """Boxes are not read; crops are the cells, not enlarged; images without boxes have cells."""
    options = {"regions": "GridRegions", "fields": ("boxes", "crops"), "max_regions": 4}
    dataset = make(folder, **options)
    assert len(dataset) == 3
    batch = collate_region_text([dataset[0, i] for i in range(3)])
    assert set(batch["region_image"].tolist()) <= {0, 1, 2}
    assert len(batch["crops"]) == len(batch["boxes"]) <= 12
    again = collate_region_text([make(folder, **options)[0, i] for i in range(3)])
    assert torch.equal(batch["boxes"], again["boxes"])
    assert len({len(dataset[epoch, 0]["boxes"]) for epoch in range(20)}) > 1
    # A picture of one white cell: the crop of that cell is white all over, others are black.
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[:30, 40:] = 255
    Image.fromarray(pixels).save(folder / "images" / "a.png")
    whole = make(folder, **{**options, "max_grid": 2})
    grids = [whole[epoch, 0] for epoch in range(20)]
    (sample, *_) = (g for g in grids if len(g["boxes"]) == 4)  # 2 x 2
    for box, crop in zip(sample["boxes"], sample["crops"], strict=True):
        white = box.tolist() == [0.5, 0.0, 1.0, 0.5]
        inner = crop[:, 1:-1, 1:-1]  # the resampling filter reads just over the edges
        assert (inner == 255 * white).all()


def test_grid_needs_no_annotations(folder):
    data = json.loads((folder / "instances.json").read_text())
    del data["annotations"], data["categories"]
    write(folder / "instances.json", data)
    dataset = make(folder, regions="GridRegions", fields=("texts", "boxes", "crops"))
    assert len(dataset) == 3
    (folder / "images" / "b.png").unlink()
    assert dataset[0, 1]["boxes"].shape == (0, 4)


def test_labels_are_places_in_the_files_categories(folder):
    """Category ids 7 and 8 are places 0 and 1; a box without one has no label."""
    data = json.loads((folder / "instances.json").read_text())
    del data["annotations"][1]["category_id"]
    write(folder / "instances.json", data)
    dataset = make(folder, labels=True, fields=("boxes",), captions=None)
    batch = collate_region_text([dataset[0, i] for i in range(len(dataset))])
    found = {
        (image, label)
        for image, label in zip(
            batch["region_image"].tolist(), batch["region_labels"].tolist(), strict=True
        )
    }
    assert found == {(0, 0), (0, -1), (1, 1)}
    assert batch["region_labels"].dtype == torch.int64
    by_width = {round(b[2].item() - b[0].item(), 3): i for i, b in enumerate(batch["boxes"])}
    assert batch["region_labels"][by_width[0.5]] == 0  # the cat is 40 of 80 pixels wide
    del data["categories"]
    write(folder / "instances.json", data)
    with pytest.raises(ValueError, match="labels: missing key 'categories'"):
        make(folder, labels=True)


def test_a_category_that_the_file_does_not_list_is_refused(folder):
    data = json.loads((folder / "instances.json").read_text())
    data["annotations"][1]["category_id"] = 99
    write(folder / "instances.json", data)
    with pytest.raises(ValueError, match=r"annotations\[1\]: category_id 99 is not among"):
        make(folder)


def test_nothing_trains_without_a_box(folder):
    data = json.loads((folder / "instances.json").read_text())
    small = {**data, "annotations": [a for a in data["annotations"] if a["id"] in (12, 13, 14)]}
    for content in ({**data, "annotations": []}, small):
        write(folder / "instances.json", content)
        with pytest.raises(ValueError, match="no usable box is left in 3 images"):
            make(folder)
        # Captions alone are enough where no box is asked for.
        assert len(make(folder, fields=("texts",))) == 3
    write(folder / "instances.json", data)
    with pytest.raises(ValueError, match=r"no usable box is left.*4 x box area out of range"):
        make(folder, min_area=1e6, max_area=1e7)


def test_nothing_trains_on_captions_of_other_images(folder):
    data = json.loads((folder / "captions.json").read_text())
    for entry in data["annotations"]:
        entry["image_id"] += 100
    write(folder / "captions.json", data)
    with pytest.raises(ValueError, match=r"captions\.json: none is of .* 101 here, 1 there"):
        make(folder)
    for entry in data["annotations"]:
        entry["caption"] = " "
    write(folder / "captions.json", data)
    with pytest.raises(ValueError, match=r"no usable image is left.*3 x image without cap"):
        make(folder)
    # Self-distillation asks for boxes and crops alone.
    dataset = make(folder, fields=("boxes", "crops"))
    assert [len(dataset[0, i]["boxes"]) for i in range(len(dataset))] == [2, 1]


def test_nothing_trains_on_region_captions_of_other_boxes(folder):
    captions = write(folder / "regions.json", {"9999": "furry", "z_1_2_3_4.jpg": "tall"})
    with pytest.raises(ValueError, match=r"regions\.json: none of the 2 keys, the first '9999'"):
        make(folder, region_captions=captions)
    # Self-distillation needs no captions and keeps its boxes.
    dataset = make(folder, region_captions=captions, fields=("boxes", "crops"))
    assert [len(dataset[0, i]["boxes"]) for i in range(len(dataset))] == [2, 1]


def test_region_captions_are_found_by_what_the_file_says(folder):
    """Ids are renumbered and boxes cut, keys are neither."""
    data = json.loads((folder / "instances.json").read_text())
    for number, annotation in enumerate(data["annotations"]):
        annotation["id"] = number
    write(folder / "instances.json", data)
    captions = {"0": "zero", "a_60_40_40_40.jpg": "cuts"}
    dataset = make(folder, region_captions=write(folder / "regions.json", captions))
    assert sorted(words(dataset[0, 0]["region_texts"])) == ["cuts", "zero"]
    for annotation in data["annotations"]:
        annotation["id"] = 0
    write(folder / "instances.json", data)
    with pytest.raises(ValueError, match=r"regions\.json: '0' is the id of several annotations"):
        make(folder, region_captions=folder / "regions.json")


def test_views_are_added_to_whatever_else_is_asked_for(folder):
    views = {"global_size": 16, "local_size": 8, "num_local": 3}
    dataset = make(folder, fields=("texts",), views=views)
    (folder / "images" / "c.png").unlink()
    batch = collate_region_text([dataset[1, i] for i in range(3)])
    assert batch["global_views"].shape == (2, 2, 3, 16, 16)
    assert batch["local_views"].shape == (2, 3, 3, 8, 8)
    assert batch["local_views"].dtype == torch.uint8
    # The same views in another run, and with other fields; others in another epoch.
    again = make(folder, views=views)[1, 0]
    assert torch.equal(again["local_views"][0], batch["local_views"][0])
    assert not torch.equal(dataset[2, 0]["local_views"][0], batch["local_views"][0])
    # And they change nothing about the other draws.
    assert torch.equal(again["boxes"], make(folder)[1, 0]["boxes"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image_root": "nowhere"}, FileNotFoundError, "image folder nowhere does not exist"),
        ({"annotations": "no.json"}, FileNotFoundError, "annotations: no.json does not exist"),
        ({"captions": None}, ValueError, "set captions="),
        ({"fields": ("texts", "masks")}, ValueError, "unknown masks; known: texts, boxes"),
        ({"category_caption": "a dog"}, ValueError, "needs one {}"),
        ({"num_images": 9}, ValueError, "num_images=9"),
        (
            {"regions": "Masks"},
            ValueError,
            "regions: unknown type 'Masks'; known: AnnotationFiles, BoxRegions, GridRegions",
        ),
        ({"regions": "GridRegions"}, ValueError, 'drop the field "region_texts"'),
        (
            {"regions": "GridRegions", "fields": ("boxes",), "labels": True},
            TypeError,
            "unexpected keyword argument 'labels'",
        ),
        (
            {"regions": "GridRegions", "fields": ("boxes",), "max_grid": 0},
            ValueError,
            "max_grid: expected an integer from 1 on",
        ),
        (
            {"views": {"global_size": 8, "local_size": 8, "num_local": 0}},
            ValueError,
            "num_local: expected an integer from 1 on",
        ),
        ({"min_side": 500}, ValueError, "no usable image is left of 3"),
    ],
)
def test_bad_settings_are_refused_at_once(folder, change, error, message):
    with pytest.raises(error) as caught:
        make(folder, **change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("instances.json", "{", "instances.json is not valid JSON"),
        ("instances.json", "{}", "missing key 'images'"),
        ("captions.json", "[]", "expected a JSON object, got list"),
    ],
)
def test_malformed_files_are_named(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        make(folder)


def test_parts_may_be_objects(folder):
    files = [folder / "images", folder / "instances.json"]
    dataset = RegionTextDataset(
        source=AnnotationFiles(*files, captions=folder / "captions.json"),
        images=ImageReader(transform={"size": SIZE}),
        regions=BoxRegions(category_caption="{}"),
        views=MultiCrop(global_size=8, local_size=4),
        tokenizer=characters,
    )
    other = make(folder, views={"global_size": 8, "local_size": 4})
    for name, rows in dataset[1, 0].items():
        assert (
            rows == other[1, 0][name] if name == "skipped" else torch.equal(rows, other[1, 0][name])
        )
    # Behaviour belongs to the parts.
    assert len(inspect.signature(RegionTextDataset).parameters) <= 10
