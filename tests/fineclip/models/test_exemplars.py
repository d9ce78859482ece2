"""Class embeddings from pictures: what they are, where they lie, and when they are made again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fineclip.models import DenseCLIP
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.models.exemplars import aligned, clip_region_encoder, encode_exemplars, fuse_exemplars
from fineclip.text import Vocabulary
from fineclip.text.exemplars import Exemplar
from fineclip.text.vocabulary import Category


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(random.integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(files[-1])
    return files


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create("ViT-Ti-16").eval()


def test_a_region_is_that_of_encode_regions(clip, pictures):
    found = encode_exemplars(
        [Exemplar(pictures[0]), Exemplar(pictures[1], (16, 10, 32, 20))], clip_region_encoder(clip)
    )
    images = torch.stack([clip.preprocess(Image.open(file)) for file in pictures[:2]])
    boxes = [torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[0.25, 0.25, 0.75, 0.75]])]
    with torch.no_grad():
        regions = clip.encode_regions(images, boxes)
        dense = clip.encode_dense(images)
    torch.testing.assert_close(found[:, 0], regions)
    places = F.normalize(F.adaptive_avg_pool2d(dense, 4).flatten(2), dim=1).transpose(1, 2)
    torch.testing.assert_close(found[:, 1:], places)


def test_pictures_are_encoded_once_by_their_content(clip, pictures, tmp_path):
    calls = []
    encode = clip_region_encoder(clip)

    def counted(image, box):
        calls.append(image.size)
        return encode(image, box)

    cache = EmbeddingCache(["m"], tmp_path / "cache")
    first = encode_exemplars([Exemplar(file) for file in pictures], counted, cache)
    copy = tmp_path / "copy.png"
    copy.write_bytes(pictures[1].read_bytes())
    again = encode_exemplars([Exemplar(copy), Exemplar(pictures[0])], counted, cache)
    assert len(calls) == 3 and torch.equal(again, first[[1, 0]])
    encode_exemplars([Exemplar(copy, (0, 0, 8, 8))], counted, cache)
    Image.new("RGB", (64, 40)).save(copy)
    encode_exemplars([Exemplar(copy)], counted, cache)
    assert len(calls) == 5


def test_the_gap_between_pictures_and_words_is_closed():
    """Pictures of ten named things: each alike its word, all of them shifted the same way."""
    torch.manual_seed(0)
    words = F.normalize(torch.randn(10, 64), dim=1)
    gap = 2 * F.normalize(torch.randn(64), dim=0)

    def seen(content):
        return F.normalize(content + gap + 0.1 * torch.randn(*content.shape[:-1], 64), dim=-1)

    places = seen(words[torch.randint(10, (50, 16))])
    views = seen(words)  # (10, 64) of other pictures
    regions = [seen(words[index].expand(5, 64)) for index in range(10)]
    raw = torch.stack([F.normalize(rows.mean(dim=0), dim=0) for rows in regions])
    found = aligned(regions, places, words)
    # Without alignment any picture beats the right word; with it the right word or picture wins.
    classes = torch.arange(10)
    assert (views @ torch.cat([words, raw[:1]]).T).argmax(dim=1).eq(10).all()
    mixed = torch.cat([words[:5], found[5:]])
    assert (views @ mixed.T).argmax(dim=1).equal(classes)
    # What no word says is kept.
    new = F.normalize(torch.randn(2, 64), dim=1)
    strange = aligned([seen(row.expand(5, 64)) for row in new], places, words)
    assert (seen(new) @ torch.cat([words, strange]).T).argmax(dim=1).tolist() == [10, 11]


def test_weights_of_words_and_pictures(pictures):
    torch.manual_seed(0)
    exemplars = tuple(map(Exemplar, pictures))
    vocabulary = Vocabulary(
        "v",
        (Category("cat"), Category("owl", exemplars=exemplars), Category("x", exemplars=exemplars)),
    )
    texts, words = F.normalize(torch.randn(2, 3, 8), dim=-1)

    def encode(image, box):
        dense = F.normalize(torch.ones(8, 4, 4) + 0.1 * torch.arange(8.0)[:, None, None], dim=0)
        return dense[:, 0, 0], dense

    def fused(weight, own=None, texts=texts):
        last = replace(vocabulary.categories[2], exemplar_weight=own)
        changed = replace(vocabulary, categories=(*vocabulary.categories[:2], last))
        return fuse_exemplars(changed, texts, words, encode, weight)

    assert torch.equal(fused(0.5)[0], texts[0])
    torch.testing.assert_close(fused(0), texts)
    alone, half = fused(1), fused(0.5)
    torch.testing.assert_close(alone[1], alone[2])
    assert not torch.allclose(half[1], alone[1])
    torch.testing.assert_close(fused(0.5, own=0)[2], texts[2])
    # By pictures alone, a class's words do not describe its pictures either.
    other = texts.clone()
    other[2] = -other[2]
    assert torch.equal(fused(0.5, own=1)[2], fused(0.5, own=1, texts=other)[2])
    # Every prompt's channel is mixed for itself.
    channels = torch.stack([texts, texts.roll(1, 0)], dim=1)  # (K, P, D)
    found = fused(0.5, texts=channels)
    assert found.shape == channels.shape and torch.equal(found[0], channels[0])
    assert not torch.allclose(found[1, 0], found[1, 1])
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 2))
    assert (
        fuse_exemplars(replace(vocabulary, categories=(Category("cat"),)), texts, words, encode)
        is texts
    )
