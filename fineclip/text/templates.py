"""Prompt templates: functions from a class name to the sentences that are encoded for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Template = Callable[[str], list[str]]


def prompt_name(name: str) -> str:
    """Writes a category name as running text.

    ``_`` becomes a space, ``/`` the word "or", letters are lowered, trailing dots go. Anything
    else (hyphens, parentheses, a trailing space) stays: published numbers were made with it.

    Args:
        name: Category name as the data set writes it.

    Returns:
        The name for use in a prompt.
    """
    return name.replace("_", " ").replace("/", " or ").lower().rstrip(".")


def article(name: str) -> str:
    """Indefinite article by the rule of ViLD's prompts.

    Args:
        name: Category name as the data set writes it (a capital vowel counts as no vowel).

    Returns:
        ``"an"`` if the first letter is one of a, e, i, o, u, else ``"a"``.
    """
    return "an" if name[:1] in tuple("aeiou") else "a"


_PHOTO_QUALITIES = (
    "good",
    "bad",
    "bright",
    "dark",
    "low resolution",
    "cropped",
    "close-up",
    "jpeg corrupted",
    "blurry",
    "pixelated",
    "black and white",
)
_OBJECT_QUALITIES = ("nice", "cool", "weird", "small", "large", "clean", "dirty", "hard to see")
_MATERIALS = ("plastic", "toy", "plushie", "cartoon")


def vild(name: str) -> list[str]:
    """The 63 prompts of ViLD (Gu et al., ICLR 2022), which CLIPSelf and FineCLIP evaluate with.

    A prompt that would begin with an article begins with "This is " instead, as in the release.

    Args:
        name: Category name as the data set writes it.

    Returns:
        63 sentences.
    """
    a, x = article(name), prompt_name(name)
    prompts = [f"There is {d} {x} in the scene." for d in (a, "the")]
    prompts += [f"a photo of {d} {x} in the scene." for d in (a, "the", "one")]
    prompts += [f"itap of {d} {x}." for d in (a, "my", "the")]
    prompts += [f"a photo of {d} {x}." for d in (a, "my", "the", "one", "many")]
    prompts += [f"a {q} photo of {d} {x}." for q in _PHOTO_QUALITIES for d in (a, "the")]
    # From here on the article belongs to the adjective, not to the name.
    prompts += [f"a photo of {d} {q} {x}." for q in _OBJECT_QUALITIES for d in ("a", "the")]
    prompts += [f"{d} {q} {x}." for q in _MATERIALS for d in ("a", "the")]
    prompts += [f"{d} embroidered {x}." for d in ("an", "the")]
    prompts += [f"a painting of {d} {x}." for d in ("a", "the")]
    return [f"This is {p}" if p.startswith(("a", "the")) else p for p in prompts]


def imagenet(name: str) -> list[str]:
    """OpenAI's 80 ImageNet prompts, as open_clip lists them."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # slow to import, and seldom needed

    return [template(prompt_name(name)) for template in OPENAI_IMAGENET_TEMPLATES]


def simple(name: str) -> list[str]:
    """OpenAI's 7 best ImageNet prompts, as open_clip lists them."""
    from open_clip import SIMPLE_IMAGENET_TEMPLATES

    return [template(prompt_name(name)) for template in SIMPLE_IMAGENET_TEMPLATES]


def photo(name: str) -> list[str]:
    """One prompt: "a photo of a name." with the fitting article."""
    return [f"a photo of {article(name)} {prompt_name(name)}."]


def plain(name: str) -> list[str]:
    """One prompt: the name with its article, nothing else."""
    return [f"{article(name)} {prompt_name(name)}"]


def name_only(name: str) -> list[str]:
    """One prompt: the name alone."""
    return [prompt_name(name)]


def catseg(name: str) -> list[str]:
    """CAT-Seg's one prompt, which takes the name byte for byte (Cho et al., CVPR 2024)."""
    return [f"A photo of a {name} in the scene"]


def imagenet_select(name: str) -> list[str]:
    """CAT-Seg's choice of 8: OpenAI's 7 best and its own; the name byte for byte."""
    from open_clip import SIMPLE_IMAGENET_TEMPLATES

    return [*(template(name) for template in SIMPLE_IMAGENET_TEMPLATES), *catseg(name)]


TEMPLATES: dict[str, Template] = {
    "vild": vild,
    "imagenet": imagenet,
    "simple": simple,
    "photo": photo,
    "plain": plain,
    "name": name_only,
    "catseg": catseg,
    "imagenet_select": imagenet_select,
}


def get_templates(templates: str | Sequence[str] | Template) -> Template:
    """Turns a setting into a function from a class name to prompts.

    Args:
        templates: A key of :data:`TEMPLATES`; or one or several strings that contain ``{}`` for
            the name as :func:`prompt_name` writes it (and, if wanted, ``{article}``); or a
            function, returned as it is.

    Returns:
        Function from a category name to a list of prompts.

    Raises:
        ValueError: An unknown key, a string without ``{}``, or an empty list.
    """
    if callable(templates):
        return templates
    if isinstance(templates, str):
        if templates in TEMPLATES:
            return TEMPLATES[templates]
        templates = [templates]
    templates = list(templates)
    if not templates:
        raise ValueError("templates is empty; give at least one string with {} for the name")
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(
                f"unknown templates {template!r}: expected one of {', '.join(TEMPLATES)}, "
                "or a string with {} where the class name goes"
            )

    def fill(name: str) -> list[str]:
        x, a = prompt_name(name), article(name)
        # The article first: a name is never searched for placeholders.
        return [t.replace("{article}", a).replace("{}", x) for t in templates]

    return fill


def class_prompts(
    names: Sequence[str | Sequence[str]], templates: str | Sequence[str] | Template
) -> list[list[str]]:
    """The prompts of each class.

    Args:
        names: Class names as the data set writes them; or several of one class (its synonyms),
            whose prompts follow one another.
        templates: Anything :func:`get_templates` takes.

    Returns:
        A list of prompts per class.

    Raises:
        ValueError: No names, an empty name, or unknown templates.
    """
    fill = get_templates(templates)
    if not names:
        raise ValueError("no class names given")
    groups = [[name] if isinstance(name, str) else list(name) for name in names]
    for index, group in enumerate(groups):
        if not group or not all(name.strip() for name in group):
            raise ValueError(f"class {index} has an empty name")
    return [[prompt for name in group for prompt in fill(name)] for group in groups]
