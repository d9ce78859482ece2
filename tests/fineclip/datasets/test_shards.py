import json
import re

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from region_text import region_text_dataset

from fineclip.datasets import EpochSampler, ShardSampler, collate_region_text
from fineclip.datasets.shard_writer import make_shards
from fineclip.datasets.shards import Shards

WORDS = ["red", "green", "small", "large", "cup", "dog"]
FILES = ("image_root", "annotations", "captions", "region_captions")


def characters(texts):
    return torch.tensor([[ord(c) for c in text.ljust(8)[:8]] for text in texts])


@pytest.fixture
def files(tmp_path):
    """Nine images: one not decodable, one PNG, one without caption, one without boxes."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    root.mkdir()
    images, annotations, captions, region_captions = [], [], [], {}
    for number in range(9):
        width, height = (int(v) for v in rng.integers(40, 90, 2))
        name = f"pic.{number}.{'png' if number == 4 else 'JPG'}"
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
        images.append({"id": 100 - number, "file_name": name, "width": width, "height": height})
        for _ in range(0 if number == 3 else 4):
            identity = len(annotations) + 1
            box = [*(rng.uniform(0, 20, 2)), *(rng.uniform(5, 40, 2))]
            annotations.append({"id": identity, "image_id": 100 - number, "bbox": box})
            annotations[-1] |= {"category_id": 7 + identity % 2, "segmentation": [[0.0] * 8]}
            if identity % 5:
                region_captions[str(identity)] = " ".join(rng.choice(WORDS, 2))
        for _ in range(0 if number == 6 else 3):
            text = " ".join(rng.choice(WORDS, 3))
            captions.append({"image_id": 100 - number, "caption": text})
    (root / "pic.2.JPG").write_bytes(b"not an image")
    categories = [{"id": 8, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {
        "annotations": {"images": images, "annotations": annotations, "categories": categories},
        "captions": {"annotations": captions},
        "region_captions": region_captions,
    }
    paths = {"image_root": root}
    for name, data in content.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(data))
    return paths


@pytest.fixture
def shards(files, tmp_path):
    counts = make_shards(tmp_path / "shards", **files, samples_per_shard=4)
    assert (counts["images"], counts["shards"], counts["missing"]) == (9, 3, 0)
    return tmp_path / "shards"


def dataset(**options):
    if options.get("regions") != "GridRegions":
        options = {"min_area": 30, **options}
    return region_text_dataset(tokenizer=characters, transform={"size": 24}, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backend": "tensor"},
        {"num_images": 5, "seed": 3, "max_boxes": 2},
        {"labels": True, "fields": ("boxes",)},
        {"views": {"global_size": 16, "local_size": 8}, "fields": ("texts",)},
        {"regions": "GridRegions", "fields": ("boxes", "crops")},
    ],
)
def test_batches_from_shards_are_those_from_files(files, shards, options):
    ours, other = dataset(folder=shards, **options), dataset(**files, **options)
    assert len(ours) == len(other)
    assert ours.problems == other.problems
    for epoch in range(2):
        samplers = [EpochSampler(d, shuffle=True, seed=1) for d in (ours, other)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        keys = list(samplers[0])
        assert keys == list(samplers[1])
        a = collate_region_text([ours[key] for key in keys])
        b = collate_region_text([other[key] for key in keys])
        assert a.keys() == b.keys()
        for name in a.keys() - {"skipped"}:
            assert torch.equal(a[name], b[name]), name
            assert a[name].stride() == b[name].stride(), name
        assert len(a["images"])
        # Which file was skipped is said in the source's own terms.
        (in_shards, *_), (in_files, *_) = (
            zip(*a["skipped"], strict=True),
            zip(*b["skipped"], strict=True),
        )
        assert in_shards[0].endswith("000000.tar:000000002.jpg")
        assert in_files[0].endswith("pic.2.JPG")
        assert a["skipped"][0][1] == b["skipped"][0][1]


def test_without_region_captions_categories_name_the_boxes(files, tmp_path):
    del files["region_captions"]
    make_shards(tmp_path / "plain", **files)
    ours, other = dataset(folder=tmp_path / "plain")[0, 0], dataset(**files)[0, 0]
    assert torch.equal(ours["region_texts"], other["region_texts"])
    assert len(ours["region_texts"])


def test_webdataset_reads_the_shards(files, shards):
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(9)]
    assert samples[4]["png"] == (files["image_root"] / "pic.4.png").read_bytes()
    entry = samples[4]["json"]
    assert entry["image"]["file_name"] == "pic.4.png"
    assert len(entry["captions"]) == 3
    assert len(entry["annotations"]) == 4
    assert "segmentation" not in entry["annotations"][0]
    assert [a.get("caption") is None for a in entry["annotations"]] == [
        not a["id"] % 5 for a in entry["annotations"]
    ]


def test_the_same_data_give_the_same_bytes(files, shards, tmp_path):
    make_shards(tmp_path / "again", **files, samples_per_shard=4)
    for path in shards.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_missing_shard(shards):
    (shards / "000001.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"names 000001\.tar, which is not beside it"):
        dataset(folder=shards)


def test_truncated_shard(shards):
    path = shards / "000002.tar"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ValueError, match=r"000002\.tar is truncated: \d+ bytes, the index says"):
        dataset(folder=shards)


def test_index_of_other_shards(files, shards, tmp_path):
    """Of the same size, but with members at other places."""
    path = shards / "000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:512] + bytes(512) + content[512:-512])
    with pytest.raises(ValueError, match=r"000000\.tar does not fit its index: 000000000\.json"):
        dataset(folder=shards)
    path.write_bytes(content + bytes(512))
    with pytest.raises(ValueError, match=r"does not fit its index: \d+ bytes, the index says"):
        dataset(folder=shards)


def test_shard_changed_while_training(shards):
    data = dataset(folder=shards)
    path = shards / "000000.tar"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    with pytest.raises(ValueError, match=r"does not fit its index: 000000000\.jpg should be at"):
        data[0, 0]
    path.write_bytes(content[:2000])
    with pytest.raises(ValueError, match=r"ends within 000000000\.jpg; make the shards anew"):
        data[0, 0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000000\.tar is gone"):
        data[0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected format 'fineclip-shards', version 1, got .* version 2"),
        ({"shards": None}, "missing key 'shards'"),
        (
            {"images": [[512]]},
            "key 'images': expected a list of pairs of integers, offset",
        ),
        ({"annotations": [[512, 3]]}, "000000.tar has 1 entries of 'annotations' for 4 images"),
        (
            {"annotations": [[512, 10**9]] * 4},
            "'annotations' of 000000.tar lie outside of",
        ),
        ({"extensions": ["jpg"]}, "000000.tar has 1 entries of 'extensions' for 4 images"),
    ],
)
def test_malformed_index(files, tmp_path, change, message):
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    for name in ("images", "annotations", "extensions"):
        index["shards"][0][name] = index["shards"][0][name][:4]
    for name, value in change.items():
        target = index if name in index else index["shards"][0]
        target[name] = value
        if value is None:
            del target[name]
    (tmp_path / "s" / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        dataset(folder=tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": 1}, "index.json: key 'captions': expected True or False, got 1"),
        ({"categories": {"a": 1}}, "key 'categories': expected a list"),
        ({"categories": [{"id": 1, "name": None}]}, "category 0: key 'name': expected text"),
        ({"categories": [3]}, "category 0: expected a JSON object, got 3"),
        ({"shards": [3]}, "an entry of 'shards': expected a JSON object, got 3"),
        ({"file": 3}, "key 'file': expected the name of a file beside the index, got 3"),
        ({"file": "../s/000000.tar"}, "key 'file': expected the name of a file beside"),
        ({"bytes": "9"}, "key 'bytes': expected an integer"),
        ({"images": [["512", 3]]}, "key 'images': expected a list of pairs of integers"),
        ({"images": [[512.0, 3]]}, "key 'images': expected a list of pairs of integers"),
        ({"images": [[512, -3]] * 9}, "'images' of 000000.tar lie outside"),
        ({"images": [[2**62, 2**62]] * 9}, "'images' of 000000.tar lie outside"),
        ({"images": [[2**70, 3]] * 9}, "'images' of 000000.tar lie outside"),
        ({"extensions": [None] * 9}, "key 'extensions': expected a list of text"),
        ({"version": "1"}, "key 'version': expected an integer"),
    ],
)
def test_types_in_the_index(files, tmp_path, change, message):
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    path = tmp_path / "s" / "index.json"
    index = json.loads(path.read_text())
    for name, value in change.items():
        (index if name in index else index["shards"][0])[name] = value
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        dataset(folder=tmp_path / "s")
    assert str(path) in str(caught.value)


def test_a_shard_is_named_once(files, tmp_path):
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    path = tmp_path / "s" / "index.json"
    index = json.loads(path.read_text())
    index["shards"] *= 2
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: two entries of 'shards' name the same"):
        dataset(folder=tmp_path / "s")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"captions": [', b'"captions": 3, "x": [', "key 'captions': expected a list of text"),
        (b'"width": ', b'"width":"a", "w":', "image: key 'width': expected a number from 1 on"),
        (b'"file_name"', b'"file_nama"', "image: missing key 'file_name'"),
        (b'"bbox": [', b'"bbox":1,"b":[', "annotation 0: key 'bbox': expected a list, got 1"),
        (b'"annotations": [{', b'"annotations": [1,{', "annotation 0: expected a JSON object"),
    ],
)
def test_types_in_a_sample(files, tmp_path, old, new, message):
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    shard, path = tmp_path / "s" / "000000.tar", tmp_path / "s" / "index.json"
    index, content = json.loads(path.read_text()), shard.read_bytes()
    offset, length = index["shards"][0]["annotations"][0]
    record = content[offset : offset + length].replace(old, new, 1)
    assert len(record) <= -(-length // 512) * 512, "it has to fit into the blocks of the old one"
    size = f"{len(record):011o}\0".encode()
    head = content[: offset - 388] + size + content[offset - 376 : offset]
    shard.write_bytes(head + record + content[offset + len(record) :])
    index["shards"][0]["annotations"][0][1] = len(record)
    del index["shards"][0]["records"]  # as shards of earlier versions
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        dataset(folder=tmp_path / "s")
    assert f"{shard}: 000000000.json" in str(caught.value)


def test_records_beside_a_shard(files, tmp_path, monkeypatch):
    """They are read in one go where many are wanted, and held against the shard."""
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    source = Shards(tmp_path / "s")
    from_tar = [source.read_record(number) for number in range(9)]
    read = []
    monkeypatch.setattr(Shards, "read_record", lambda self, n: read.append(n) or from_tar[n])
    assert list(source.read_in_order(range(9))) == from_tar
    assert read == [0]
    assert list(source.read_in_order([2, 7])) == [from_tar[2], from_tar[7]]
    assert list(source.read_in_order([5])) == [from_tar[5]]
    assert read == [0, 2, 5], "one of nine is looked up"
    path, index = tmp_path / "s" / "000000.jsonl", tmp_path / "s" / "index.json"
    lines = path.read_bytes().splitlines(keepends=True)
    for content, message in (
        (b"".join(lines[1:]), r"jsonl is truncated: \d+ bytes, the index says"),
        (b"".join([*lines[1:], lines[0]]), "000000000 is another one in the shard"),
        (b"x" + b"".join(lines)[1:], "jsonl: 000000000 is not valid JSON"),
        (b"".join(lines).replace(b'"width": ', b'"width":-', 1), "000000000: image: key 'width'"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            list(Shards(tmp_path / "s").read_in_order(range(9)))
    path.write_bytes(b"".join(lines[:8]))
    entry = json.loads(index.read_text())
    entry["shards"][0]["records"]["bytes"] = path.stat().st_size
    index.write_text(json.dumps(entry))
    with pytest.raises(ValueError, match="ends before its shard does; make the shards anew"):
        list(Shards(tmp_path / "s").read_in_order(range(9)))


def test_an_index_that_states_another_length(files, tmp_path):
    make_shards(tmp_path / "s", **files, samples_per_shard=9)
    path = tmp_path / "s" / "index.json"
    index = json.loads(path.read_text())
    index["shards"][0]["images"][0][1] -= 1
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"000000\.tar does not fit its index: 000000000\.jpg"):
        dataset(folder=tmp_path / "s")[0, 0]


def test_either_files_or_shards(files, shards):
    with pytest.raises(TypeError, match="unexpected keyword argument 'image_root'"):
        dataset(folder=shards, **files)
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'image_root'"):
        dataset(fields=("boxes",))
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist"):
        dataset(folder="nowhere")


def test_captions_that_the_shards_lack(files, tmp_path):
    make_shards(tmp_path / "s", **{**files, "captions": None})
    with pytest.raises(ValueError, match='made without captions, which the field "texts" needs'):
        dataset(folder=tmp_path / "s")
    assert len(dataset(folder=tmp_path / "s", fields=("boxes",)))


def test_nothing_half_written_is_left(files, tmp_path):
    out = tmp_path / "made" / "shards"
    (files["image_root"] / "pic.7.JPG").unlink()
    with pytest.raises(FileNotFoundError, match=r"pic\.7\.JPG: no such file"):
        make_shards(out, **files)
    assert list(out.parent.iterdir()) == []
    counts = make_shards(out, **files, skip_missing=True)
    assert (counts["images"], counts["missing"]) == (8, 1)
    with pytest.raises(FileExistsError, match="holds shards already"):
        make_shards(out, **files, skip_missing=True)
    with pytest.raises(FileExistsError, match="exists and holds no shards"):
        make_shards(files["image_root"], **files, overwrite=True)
    before = (out / "index.json").read_bytes()
    with pytest.raises(FileNotFoundError):
        make_shards(out, **files, overwrite=True)
    assert (out / "index.json").read_bytes() == before
    make_shards(out, **files, skip_missing=True, overwrite=True, samples_per_shard=1)
    assert len(list(out.glob("*.tar"))) == 8


def test_shard_sampler_mixes_few_shards_at_a_time(files, shards):
    data = dataset(folder=shards, fields=("boxes",), regions="GridRegions")
    assert data.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    sampler = ShardSampler(data, group=2, seed=0)
    orders = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert sorted(index for _, index in keys) == list(range(9))
        assert {e for e, _ in keys} == {epoch}
        orders.append([index for _, index in keys])
        seen = data.groups[orders[-1]].tolist()
        # A third shard begins when the first two are through.
        third = next(s for s in range(3) if s not in set(seen[: 9 - seen.count(seen[-1])]))
        assert seen[9 - seen.count(third) :] == [third] * seen.count(third)
        sampler.skip(6)
        assert list(sampler) == keys[6:]
        assert list(sampler) == keys
    assert len({tuple(order) for order in orders}) == 4
    assert [i for _, i in ShardSampler(data, shuffle=False, seed=0)] == list(range(9))
    with pytest.raises(ValueError, match="needs a data set over shards"):
        ShardSampler(dataset(**files), seed=0)
    with pytest.raises(ValueError, match="group: expected an integer from 1 on, got 0"):
        ShardSampler(data, group=0)


def test_processes_share_the_samples(shards, monkeypatch):
    data = dataset(folder=shards, fields=("boxes",), regions="GridRegions")
    found = []
    for rank in range(2):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 2))
        found.append([index for _, index in ShardSampler(data, group=1, seed=0)])
    assert [len(part) for part in found] == [5, 5]
    assert set(found[0]) | set(found[1]) == set(range(9))


def test_skip_is_for_one_iteration(files):
    sampler = EpochSampler(dataset(**files), seed=0)
    keys = list(sampler)
    sampler.skip(3)
    assert len(sampler) == len(keys)
    assert list(sampler) == keys[3:]
    assert list(sampler) == keys
