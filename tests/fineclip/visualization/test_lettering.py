"""Text on pictures: fonts for every script, and nothing beyond the picture."""

import numpy as np
import pytest
from PIL import Image

from fineclip.visualization import draw_boxes, draw_label_map, lettering, undrawable

LONG = "a rather long name of something that nobody would put on such a small picture 0.87"
COVERED = ["café", "кошка", "γάτα", "חתול", "قطة"]  # by the font that matplotlib has
WHITE_ON = 5  # a class whose colour is dark
NOWHERE = "\U0001f9ff\U000f0000"  # the second is for private use


@pytest.mark.parametrize("text", COVERED)
def test_scripts_have_letters(text):
    assert undrawable([text]) == []
    found = lettering.lettering(text, 24)
    assert found.text == text
    # A font without a letter draws the same box for it as for any other that it lacks.
    assert ink(found.font, text[0]) != ink(found.font, "\U000f0000")


def ink(font, letter):
    return bytes(font.getmask(letter))


def test_letters_that_no_font_has_are_escaped_and_said(monkeypatch):
    monkeypatch.setattr(lettering, "_installed_fonts", lambda: ())
    lettering._font_file.cache_clear()
    try:
        for text, drawn in (
            ("\U000f0000 0.50", "\\U000f0000 0.50"),
            ("猫 и кошка", "\\u732b и кошка"),
            ("a\nb", "a\\nb"),
        ):
            assert lettering.lettering(text, 12).text == drawn
        assert undrawable(["cat", "猫", "кошка", "chat noir"]) == ["猫"]
    finally:
        lettering._font_file.cache_clear()


def test_plain_latin_keeps_its_font():
    own, other = lettering.lettering("cat", 12).font, lettering.lettering("кошка", 12).font
    assert own.getname() != other.getname() == ("DejaVu Sans", "Book")


@pytest.mark.parametrize("text", [LONG, LONG.replace("o", "ш").replace(" ", ""), "кошка " * 9])
@pytest.mark.parametrize("width", [5, 30, 70, 200])
def test_text_is_cut_to_what_there_is_room_for(text, width):
    whole = lettering.lettering(text, 12)
    fitted = whole.fitted(width)
    assert whole.width > width >= fitted.width
    assert width < 30 or fitted.text
    assert whole.fitted(whole.width).text == text
    if text == LONG and width == 200:
        assert fitted.text.startswith("a rather") and fitted.text.endswith("... 0.87")


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (300, 40), (16, 16)])
@pytest.mark.parametrize("label", ["cat 0.87", LONG, "кошка 0.50"])
def test_labels_of_boxes_stay_in_the_picture(monkeypatch, size, label):
    """Drawn on a larger canvas at the same places, nothing lies beyond the picture."""
    width, height = size
    for corner in ((0, 0), (width - 3, height - 2), (width - 3, 0), (-9, -9), (0, height + 5)):
        small = draw_boxes(Image.new("RGB", size), [(*corner, 0, 0)], [WHITE_ON], [label])
        letters = (np.asarray(small) == 255).all(-1)
        fitted = lettering.lettering(label, lettering.letter_size(small)).fitted(width - 4)
        left, top, right, bottom = fitted.font.getbbox(fitted.text)
        room = Image.new("RGB", (400, 100))
        free = draw_boxes(room, [(100, 50, 0, 0)], [WHITE_ON], [fitted.text])
        # All letters that a picture with room shows are there.
        assert abs(int(letters.sum()) - int((np.asarray(free) == 255).all(-1).sum())) <= 1
        assert bottom - top <= height and right - left <= width


def test_legends_stay_in_the_picture():
    labels = np.repeat(np.arange(3), 20).reshape(1, 60).repeat(40, 0)
    names = [LONG, "кошка", LONG.replace("a", "ш")]
    drawn = draw_label_map(Image.new("RGB", (60, 40)), labels, names)
    legend = np.asarray(drawn)[40:].astype(int)
    background = np.array(drawn.getpixel((59, drawn.height - 1)))
    assert (abs(legend[:, -2:] - background) == 0).all()
    assert (legend[:, :-2].min(-1) > 200).any()  # there are letters
