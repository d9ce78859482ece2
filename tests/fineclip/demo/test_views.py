"""What the page shows of a photograph and words, without a browser."""

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.demo.views import MOST_MAPS, PageViews, Settings
from fineclip.models import DenseCLIP, WordEmbedder, build_class_embeddings

SETTINGS = Settings()
MODEL = "ViT-Ti-8-scenes"


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create(MODEL).eval()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    file = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return str(file)


@pytest.fixture
def counted(clip, monkeypatch):
    """How many prompts were encoded, and how many images."""
    counts = {"texts": 0, "images": 0}

    def counting(name, what):
        encode = getattr(clip, name)

        def counted(batch, *args, **options):
            counts[what] += len(batch)
            return encode(batch, *args, **options)

        monkeypatch.setattr(clip, name, counted)

    counting("encode_text", "texts")
    counting("encode_image_and_dense", "images")
    return counts


def test_a_word_is_embedded_as_the_others_are(clip):
    embed, words = WordEmbedder(clip, "vild", capacity=2), ["red ring", "🐱", "wooden floor"]
    assert torch.allclose(embed(words), build_class_embeddings(clip, words, "vild"), atol=1e-6)


def test_a_word_and_a_photograph_are_encoded_once(clip, photo, counted):
    views = PageViews(clip)
    for text in ("red ring", "red ring, ca", "red ring, cat", "cat, red ring"):
        views.words(photo, text, SETTINGS)
    views.regions(photo, "cat", SETTINGS)
    views.prepare(photo, "cat, ca", SETTINGS)
    assert counted == {"texts": 3, "images": 1}
    views.prepare(photo, "dog", SETTINGS)
    assert counted == {"texts": 4, "images": 1}


def test_scores_of_words(clip, photo):
    views = PageViews(clip)
    shown = views.words(photo, "red ring, 🐱, zebra", SETTINGS)
    assert sum(shown.content.values()) == pytest.approx(1, abs=1e-5)
    assert list(shown.content.values()) == sorted(shown.content.values(), reverse=True)
    assert any(line.startswith("🐱 (cosine ") for line in shown.content)
    assert shown.note == ""
    assert "one alone always gets 100 %" in views.words(photo, "zebra", SETTINGS).note


def test_regions(clip, photo):
    views = PageViews(clip)
    one = views.regions(photo, "zebra, ring", Settings(grid=1))
    four = views.regions(photo, "zebra, ring", Settings(grid=2))
    width, height = one.content.size
    assert four.content.size == (width, height) and width / height == pytest.approx(80 / 48)
    assert one.content.tobytes() != four.content.tobytes()
    note = views.regions(photo, "\U0010fffd", SETTINGS).note  # a letter of no font
    assert "No font on this machine has all letters of" in note


def test_maps(clip, photo):
    views = PageViews(clip)
    words = ", ".join(f"thing {number}" for number in range(10))
    dense = views.dense_map(photo, words, SETTINGS)
    assert len(dense.content) == MOST_MAPS["dense"]
    assert dense.note.endswith("The 8 likeliest of 10 words.")
    relevance = views.relevance(photo, "zebra, ring", SETTINGS)
    assert sorted(caption.split()[0] for _, caption in relevance.content) == ["ring", "zebra"]
    for picture, _ in (*dense.content, *relevance.content):
        assert picture.size == (640, 384)
        assert len(picture.getcolors(1 << 24)) > 100


def test_what_is_drawn_by_others(clip, photo):
    asked = []

    def draw(image, words, settings):
        asked.append((image.size, words, settings))
        return image

    settings = Settings(score=0.5)
    shown = PageViews(clip, detect=draw).detect(photo, "zebra, ring", settings)
    assert asked == [((80, 48), ("zebra", "ring"), settings)]
    assert shown.content.size == (80, 48)
    with pytest.raises(ValueError, match="without this model"):
        PageViews(clip, detect=draw).segment(photo, "zebra", settings)


def test_nothing_was_dropped(clip):
    with pytest.raises(ValueError, match="Drop a photograph"):
        PageViews(clip).words(None, "zebra", SETTINGS)
