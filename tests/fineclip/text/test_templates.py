import pytest

from fineclip.text.templates import TEMPLATES, article, get_templates, prompt_name, vild


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("stop_sign", "stop sign"),
        ("door/gate", "door or gate"),
        ("TV.", "tv"),
        ("floor-other-merged", "floor-other-merged"),
        ("bed ", "bed "),
        ("st._bernard...", "st. bernard"),
    ],
)
def test_prompt_name(name, written):
    assert prompt_name(name) == written


@pytest.mark.parametrize(
    ("name", "expected"), [("apple", "an"), ("Apple", "a"), ("hour", "a"), ("umbrella", "an")]
)
def test_article_looks_at_the_first_lower_case_letter(name, expected):
    assert article(name) == expected


def test_vild_has_63_different_prompts():
    assert len(vild("cat")) == len(set(vild("cat"))) == 63


def test_vild_prompts_by_hand():
    prompts = set(vild("orange_cat"))
    assert {
        "There is an orange cat in the scene.",
        "There is the orange cat in the scene.",
        "This is a photo of one orange cat in the scene.",
        "itap of my orange cat.",
        "This is a photo of many orange cat.",
        "This is a jpeg corrupted photo of an orange cat.",
        "This is a black and white photo of the orange cat.",
        # before an adjective the article is always "a"
        "This is a photo of a hard to see orange cat.",
        "This is the plushie orange cat.",
        "This is an embroidered orange cat.",
        "This is the embroidered orange cat.",
        # and so it is in the paintings, whatever the name begins with
        "This is a painting of a orange cat.",
    } <= prompts
    starts = {prompt.split()[0] for prompt in prompts}
    assert starts == {"There", "itap", "This"}


@pytest.mark.parametrize(
    ("key", "count"),
    [("vild", 63), ("imagenet", 80), ("simple", 7), ("photo", 1), ("plain", 1), ("name", 1)],
)
def test_counts_and_every_prompt_holds_the_name(key, count):
    prompts = TEMPLATES[key]("fire_hydrant")
    assert len(prompts) == count
    assert all("fire hydrant" in prompt for prompt in prompts)


def test_catseg_takes_the_name_byte_for_byte():
    assert TEMPLATES["catseg"]("Bed ") == ["A photo of a Bed  in the scene"]


def test_catseg_s_choice_of_imagenet_s_prompts():
    chosen = TEMPLATES["imagenet_select"]("Bed ")
    assert chosen == [
        "itap of a Bed .",
        "a bad photo of the Bed .",
        "a origami Bed .",
        "a photo of the large Bed .",
        "a Bed  in a video game.",
        "art of the Bed .",
        "a photo of the small Bed .",
        "A photo of a Bed  in the scene",
    ]
    # All but CAT-Seg's own sentence are among ImageNet's 80.
    chosen, known = TEMPLATES["imagenet_select"]("cat"), set(TEMPLATES["imagenet"]("cat"))
    assert [prompt for prompt in chosen if prompt not in known] == TEMPLATES["catseg"]("cat")


def test_plain():
    assert TEMPLATES["plain"]("apple") == ["an apple"]


def test_user_templates():
    assert get_templates("vild") is vild
    assert get_templates("a sketch of {}")("Stop_sign") == ["a sketch of stop sign"]
    fill = get_templates(["{article} {}", "the {}"])
    assert fill("owl") == ["an owl", "the owl"]
    assert fill("{article}") == ["a {article}", "the {article}"]
    assert get_templates(fill) is fill


@pytest.mark.parametrize("bad", ["vidl", ["ok {}", "not ok"], [3]])
def test_unknown_templates_list_the_known_ones(bad):
    with pytest.raises(ValueError, match=r"expected one of vild, imagenet.*with \{\}"):
        get_templates(bad)


def test_no_template_at_all():
    with pytest.raises(ValueError, match="empty"):
        get_templates([])
