"""The picture of an answer shows what the answer says."""

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.looking import Answer, draw_answer
from fineclip.visualization import class_color

PHOTO = Image.new("RGB", (120, 80))
PHOTO.paste("white", (0, 0, 60, 40))


def make_answer(maps, words=("cat", "dog")):
    count = len(words)
    scores = torch.linspace(0.8, 0.2, count)
    box = torch.tensor([[10.0, 10, 60, 70]])
    return Answer(words, scores / 4, scores, box, scores[None], maps)


def drawn(*arguments):
    return np.asarray(draw_answer(PHOTO, make_answer(*arguments), 2)).astype(int)


def one_hot(row, column):
    maps = torch.zeros(2, 4, 6)
    maps[:, row, column] = 1
    return maps


def test_the_highest_place_of_a_map_is_where_it_is():
    first, last = drawn({"relevance": one_hot(0, 0)}), drawn({"relevance": one_hot(3, 5)})
    rows, columns = np.nonzero(abs(first - last).sum(-1) > 60)
    # Two panels, one below no other; each is as wide as the photograph is, relative to its height.
    panel = columns < columns.mean()
    height, width = np.ptp(rows[panel]), np.ptp(columns[panel])
    assert width / height == pytest.approx(1.5, rel=0.1)
    corners = [(rows.min() + height // 12, columns.min() + width // 12)]
    corners.append((rows.max() - height // 12, columns[panel].max() - width // 12))
    red = [[picture[corner][0] > picture[corner][2] + 40 for corner in corners] for picture in
           (first, last)]  # fmt: skip
    assert red == [[True, False], [False, True]]
    # The photograph lies below, the right way up: its corner is white where the map is low.
    assert last[corners[0]].min() > 110 > 100 > first[corners[1]].max()


def test_words_that_were_not_explained_have_no_panel():
    unknown = torch.full((2, 4, 6), torch.nan)
    assert np.array_equal(
        drawn({"dense": one_hot(1, 1), "relevance": unknown}), drawn({"dense": one_hot(1, 1)})
    )


def test_bars_and_regions_have_the_colours_of_their_words():
    picture = drawn({})
    places = [np.nonzero((picture == class_color(index)).all(-1))[1] for index in (0, 1)]
    middle = picture.shape[1] / 2
    bars = [np.ptp(columns[columns > middle]) for columns in places]
    assert bars[0] / bars[1] == pytest.approx(4, rel=0.1)
    assert (places[0] < middle).any() and not (places[1] < middle).any()  # the region is a cat


def test_any_number_of_words_in_any_script():
    words = tuple(f"$\\frac$ слово {number} " + "long " * 9 * (number == 3) for number in range(12))
    maps = {"dense": torch.rand(12, 2, 3)}
    picture = draw_answer(PHOTO, make_answer(maps, words), 12)
    assert picture.width == 1540 and picture.height < 1600
    assert np.asarray(picture)[:, -2:].min() == 255  # nothing is cut off
