"""Lists of classes: which there are, in which order, under which ids.

The benchmarks' lists come with the package, as they were published. Those that people bring, in a
file, a config or on the command line, keep one more rule: no two names read the same, and each
says what is to be found (:func:`check_names`).
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

from fineclip.files import read_json
from fineclip.text.exemplars import Exemplar, listed_exemplars
from fineclip.text.templates import prompt_name
from fineclip.text.vocabulary_files import read_vocabulary_file

Split = Literal["base", "novel"]

_FOLDER = Path(__file__).parent / "vocabularies"

# Keys under which other programs keep a list of classes.
_CONTAINERS = frozenset(
    (
        *("names", "classes", "class_names", "labels", "words", "vocabulary"),
        *("thing_classes", "stuff_classes", "id2label", "label2id"),
    )
)


@dataclass(frozen=True)
class Category:
    """One class of a vocabulary.

    Args:
        name: As the benchmark writes it, byte for byte; it goes into prompts, too.
        prompt: Text that goes into prompts in place of the name, where the two differ.
        id: Id (or pixel value) in the data set's annotation files, None where it has none.
        synonyms: All names of the class in the data set's order; one, what goes into prompts, where
            it lists none.
        split: ``"base"``, ``"novel"`` or None.
        isthing: True for countable things, False for stuff, None where the data set does not say.
        frequency: LVIS's ``"r"``, ``"c"`` or ``"f"``, else None.
        image_count: Training images that show the class (LVIS), else None.
        exemplars: Pictures of the class.
        exemplar_weight: Their share in its embedding beside its words, in [0, 1]; None: as the
            command has it.
    """

    name: str
    id: int | None = None
    synonyms: tuple[str, ...] = ()
    split: Split | None = None
    isthing: bool | None = None
    frequency: str | None = None
    image_count: int | None = None
    prompt: str | None = None
    exemplars: tuple[Exemplar, ...] = ()
    exemplar_weight: float | None = None

    @property
    def prompt_name(self) -> str:
        """What goes into prompts."""
        return self.name if self.prompt is None else self.prompt


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of classes; the position is the class index used everywhere.

    Names of the package's own lists may repeat (nine do in ``ade847``), so look classes up by index
    or id.

    Args:
        name: Name of the vocabulary.
        categories: The K classes in class-index order.
        unused: Categories of the data set that the benchmark leaves out (``ov_coco``).
        source: Where the list comes from.
        notes: What a user of the list should know.

    Raises:
        ValueError: No category, or an id given twice.
    """

    name: str
    categories: tuple[Category, ...]
    unused: tuple[Category, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.categories:
            raise ValueError(f"vocabulary {self.name!r} has no categories")
        seen: set[int] = set()
        for category in (*self.categories, *self.unused):
            if category.id is not None and category.id in seen:
                raise ValueError(f"vocabulary {self.name!r}: category id {category.id} repeats")
            if category.id is not None:
                seen.add(category.id)

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """The K class names."""
        return tuple(category.name for category in self.categories)

    @property
    def prompt_names(self) -> tuple[str, ...]:
        """What goes into the prompts of each of the K classes: its name, unless it says other."""
        return tuple(category.prompt_name for category in self.categories)

    @property
    def has_exemplars(self) -> bool:
        """Whether pictures say what some of its classes look like."""
        return any(category.exemplars for category in self.categories)

    @property
    def ids(self) -> tuple[int | None, ...]:
        """The K ids of the annotation files."""
        return tuple(category.id for category in self.categories)

    @property
    def required_ids(self) -> tuple[int, ...]:
        """The K ids.

        Raises:
            ValueError: A category has none.
        """
        for category in self.categories:
            if category.id is None:
                where = self.source or f"vocabulary {self.name}"
                raise ValueError(f"{where}: categories: {category.name!r} has no id")
        return tuple(category.id for category in self.categories if category.id is not None)

    @property
    def synonyms(self) -> tuple[tuple[str, ...], ...]:
        """All names of each of the K classes, as they go into prompts."""
        return tuple(category.synonyms or (category.prompt_name,) for category in self.categories)

    @property
    def split(self) -> tuple[Split | None, ...]:
        """``"base"``, ``"novel"`` or None for each of the K classes."""
        return tuple(category.split for category in self.categories)

    @property
    def isthing(self) -> tuple[bool | None, ...]:
        """True (thing), False (stuff) or None (not said) for each of the K classes."""
        return tuple(category.isthing for category in self.categories)

    @cached_property
    def index_of_id(self) -> Mapping[int, int]:
        """Class index by annotation id; categories without an id are left out."""
        return {c.id: index for index, c in enumerate(self.categories) if c.id is not None}

    def indices(self, split: Split) -> tuple[int, ...]:
        """Class indices of one split.

        Args:
            split: ``"base"`` or ``"novel"``.

        Returns:
            Indices in ascending order, empty if the vocabulary has no such split.
        """
        return tuple(index for index, value in enumerate(self.split) if value == split)

    def with_ids_of(self, other: Vocabulary) -> Vocabulary:
        """This vocabulary, its classes matched by name with those of annotations.

        Args:
            other: Where the ids are from, and whether a class is a thing.

        Returns:
            A vocabulary that has no ids gets them, for each class that ``other`` has by one of its
            names; one that has ids stays as it is.
        """
        if any(id_ is not None for id_ in self.ids):
            return self
        known = {category.name: category for category in other.categories}
        return replace(self, categories=tuple(_identified(c, known) for c in self.categories))

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any] | Sequence[Any],
        origin: str = "vocabulary",
        folder: Path | None = None,
    ) -> Vocabulary:
        """Builds a vocabulary from the content of a JSON file.

        Args:
            data: Mapping with ``"categories"``, a list of names or of mappings with at least
                ``"name"``, as in this package's files. Or, shorter, that list alone. Or a mapping
                from each name to null, to its id, to the list of its synonyms, or to a mapping
                with the other keys of a category.
            origin: What error messages call the data, normally the file's path.
            folder: Where the file lies, which its exemplars are relative to; None: it is no file.

        Returns:
            The vocabulary, categories in the order of the list.

        Raises:
            ValueError: A missing or malformed key, or names that :func:`check_names` refuses; the
                message names ``origin`` and the key.
        """
        found = cls._published(data, origin, folder)
        check_names(found.prompt_names, origin)
        if len(found) == 1 and found.ids[0] is None and found.names[0] in known_vocabularies():
            raise ValueError(_built_in_as_word(found.names[0], origin))
        return found

    @classmethod
    def _published(cls, data: Any, origin: str, folder: Path | None = None) -> Vocabulary:
        """As :meth:`from_dict`, with whatever names the list has."""
        data = _long_form(data, origin)
        notes = data.get("notes", ())
        if not _strings(notes):
            raise ValueError(f"{origin}: 'notes' must be a list of strings, got {notes!r:.200}")
        for key in ("name", "source"):
            if not isinstance(data.get(key, ""), str):
                raise ValueError(f"{origin}: {key!r} must be a string, got {data[key]!r:.200}")
        try:
            return cls(
                name=data.get("name", Path(origin).stem),
                categories=_categories(data["categories"], f"{origin}: categories", folder),
                unused=_categories(
                    data.get("unused_categories", []), f"{origin}: unused_categories"
                ),
                source=data.get("source", ""),
                notes=tuple(notes),
            )
        except ValueError as error:
            message = str(error)
            raise ValueError(message if origin in message else f"{origin}: {message}") from None

    @classmethod
    def from_coco(
        cls, source: str | Path | Mapping[str, Any], origin: str | Path = "annotations"
    ) -> Vocabulary:
        """Takes the categories of a COCO-format annotation file, in ascending order of their ids.

        Args:
            source: Path of a JSON file with the key ``"categories"``, or its loaded content.
            origin: The file of loaded content, for messages; the vocabulary takes its name.

        Returns:
            The vocabulary; ``isthing``, ``synonyms`` and LVIS's keys are kept where given.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Not JSON, or its categories lack a name or an integer id.
        """
        if isinstance(source, Mapping):
            return cls._from_coco(source, str(origin))
        return cls._from_coco(read_json(source, "annotations"), str(source))

    @classmethod
    def _from_coco(cls, data: Any, origin: str) -> Vocabulary:
        if not isinstance(data, Mapping) or "categories" not in data:
            raise ValueError(
                f"{origin}: annotations without the key 'categories', a list of objects with "
                "'id' and 'name'"
            )
        vocabulary = cls.from_dict(
            {"name": Path(origin).stem, "categories": data["categories"]}, origin
        )
        ids = vocabulary.required_ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        categories = tuple(vocabulary.categories[place] for place in order)
        return cls(name=vocabulary.name, categories=categories, source=origin)


def check_names(
    names: Sequence[str], origin: str = "vocabulary", places: Sequence[str] | None = None
) -> None:
    """Checks the names of a vocabulary that somebody has written.

    Args:
        names: K class names.
        origin: What error messages call the vocabulary, normally the file's path.
        places: What they call the place of each name; None: ``categories[INDEX]``.

    Raises:
        ValueError: A name that is empty, holds a control character (a tab is one), is the word
            ``background``, or reads in prompts as another does; the message says what to do.
    """
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        place = places[index] if places else f"categories[{index}]"
        # As prompts have it: upper case, underscores and a second space make no other word.
        read = " ".join(prompt_name(unicodedata.normalize("NFC", name)).split())
        if not read:
            raise ValueError(f"{origin}: {place}: the name {name!r} is empty")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError(
                f"{origin}: {place}: {name!r:.200} holds a tab or another control character; a "
                "name is a word or a few, without columns beside it"
            )
        if read == "background":
            raise ValueError(
                f"{origin}: {place}: {name!r} is no class: it would compete with whatever the "
                "other names leave over; leave it out, or name what it consists of, such as "
                "'wall', 'sky', 'grass'"
            )
        if read in seen:
            first = seen[read]
            before = places[first] if places else f"categories[{first}]"
            what = (
                f"{before} and {place} are both {name!r}"
                if name == names[first]
                else f"{before}, {names[first]!r}, and {place}, {name!r}, read the same in prompts"
            )
            raise ValueError(
                f"{origin}: {what}: no model can tell them apart; remove one, or say what makes it "
                "another, such as 'bank of a river'"
            )
        seen[read] = index


def _is_annotations(data: Any) -> bool:
    return isinstance(data, Mapping) and ("images" in data or "annotations" in data)


def _long_form(data: Any, origin: str) -> Mapping[str, Any]:
    """Content with the key "categories", from any of the forms that ``from_dict`` takes."""
    if isinstance(data, Mapping):
        if "categories" in data:
            return data
        if not _is_annotations(data):
            return {"categories": _named_entries(data, origin)}
    elif isinstance(data, Sequence) and not isinstance(data, str):
        return {"categories": data}
    raise ValueError(
        f"{origin}: expected a JSON object with the key 'categories', a list of names, or an "
        "object of names"
    )


def _named_entries(data: Mapping[str, Any], origin: str) -> list[Mapping[str, Any]]:
    """The entries of {name: value, ...}."""
    for key in _CONTAINERS & data.keys():
        if isinstance(data[key], Sequence | Mapping) and not isinstance(data[key], str):
            raise ValueError(
                f"{origin}: the key {key!r} is taken for a class, and what it holds for its "
                "synonyms; write the list of names alone, or under the key 'categories'"
            )
    return [_named(name, data[name], origin) for name in data]


def _named(name: Any, value: Any, origin: str) -> Mapping[str, Any]:
    """One entry of the form {name: value}."""
    if not isinstance(name, str):
        raise ValueError(f"{origin}: expected names as keys of the object, got {name!r}")
    if value is None:
        return {"name": name}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"name": name, "id": value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {"name": name, "synonyms": value}
    if isinstance(value, Mapping) and value.get("name", name) == name:
        return {**value, "name": name}
    raise ValueError(
        f"{origin}: {name!r}: expected null, an id, a list of synonyms or an object with keys of "
        f"a category, got {value!r:.200}"
        + ("; of {id: name}, write the names as a list" if name.strip().isdecimal() else "")
    )


def _categories(entries: Any, origin: str, folder: Path | None = None) -> tuple[Category, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"{origin}: expected a list of categories, got {type(entries).__name__}")
    return tuple(
        _category(entry, f"{origin}[{index}]", folder) for index, entry in enumerate(entries)
    )


def _category(entry: Any, origin: str, folder: Path | None) -> Category:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping):
        raise ValueError(f"{origin}: expected a name or an object, got {type(entry).__name__}")

    def read(key: str, fits: bool, expected: str) -> Any:
        value = entry.get(key)
        if value is not None and not fits:
            raise ValueError(f"{origin}: {key!r} must be {expected}, got {value!r:.200}")
        return value

    name = entry.get("name")
    if not _text(name):
        raise ValueError(f"{origin}: 'name' must be a non-empty string, got {name!r:.200}")
    prompt = read("prompt", bool(_text(entry.get("prompt"))), "a non-empty string")
    synonyms = read("synonyms", _strings(entry.get("synonyms")), "a list of strings")
    isthing = entry.get("isthing")
    read("isthing", isinstance(isthing, int) and isthing in (0, 1), "0 or 1")
    count, weight = entry.get("image_count"), entry.get("exemplar_weight")
    return Category(
        name=name,
        id=read("id", _whole(entry.get("id")), "an integer or null"),
        synonyms=tuple(synonyms or ()) or (prompt or name,),
        split=read("split", entry.get("split") in ("base", "novel"), "'base' or 'novel'"),
        isthing=None if isthing is None else bool(isthing),
        frequency=read("frequency", entry.get("frequency") in ("r", "c", "f"), "'r', 'c' or 'f'"),
        image_count=read("image_count", _whole(count, 0), "a number of images"),
        prompt=prompt,
        exemplars=()
        if entry.get("exemplars") is None
        else listed_exemplars(entry["exemplars"], folder, f"{origin}: exemplars"),
        exemplar_weight=read("exemplar_weight", _share(weight), "a number from 0 to 1"),
    )


def _text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _whole(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _strings(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(entry, str) for entry in value)
    )


def _identified(category: Category, known: Mapping[str, Category]) -> Category:
    for name in (category.name, *category.synonyms):
        if name in known:
            other = known[name]
            return replace(category, id=other.id, isthing=other.isthing)
    return category


def _built_in_as_word(name: str, origin: str) -> str:
    return (
        f"{origin}: the only name, {name!r}, is that of a built-in vocabulary; for its classes "
        f"write --vocabulary-file {name} (in a config {name!r}, not [{name!r}]), for the word "
        f"itself say more, such as 'a {name}'"
    )


def known_vocabularies() -> tuple[str, ...]:
    """Names of the vocabularies that come with the package, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


def load_vocabulary(name_or_path: str | Path) -> Vocabulary:
    """Loads a vocabulary by name or from a file.

    Args:
        name_or_path: One of :func:`known_vocabularies`, or the path of a file. Either JSON: a
            vocabulary (see :meth:`Vocabulary.from_dict`), taken in its order; or COCO-format
            annotations (known by the key ``"images"`` or ``"annotations"``), taken in ascending
            order of ids. Or text: a name a line; empty lines and those that begin with ``#`` are
            left out.

    Returns:
        The vocabulary.

    Raises:
        ValueError: Unknown name, or a malformed file; the message names file and key or line.
        FileNotFoundError: A path with a suffix that does not exist.
    """
    known = known_vocabularies()
    if str(name_or_path) in known:
        built_in = _FOLDER / f"{name_or_path}.json"
        return Vocabulary._published(read_json(built_in, "vocabulary"), str(built_in))
    path = Path(name_or_path)
    with contextlib.suppress(RuntimeError):  # "~" of nobody
        path = path.expanduser()
    if not path.is_file():
        # The suffix tells what was meant: a file that is missing, or a name that is not known.
        kind = FileNotFoundError if path.suffix else ValueError
        raise kind(
            f"unknown vocabulary {str(name_or_path)!r}: expected one of {', '.join(known)}, "
            "or the path of an existing file (JSON, or text with a name a line)"
        )
    content = read_vocabulary_file(path)
    if content.lines is not None:
        check_names(content.data, str(path), [f"line {number}" for number in content.lines])
    if _is_annotations(content.data):
        return Vocabulary._from_coco(content.data, str(path))
    return Vocabulary.from_dict(content.data, str(path), path.parent)


def as_vocabulary(
    source: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any],
    origin: str = "vocabulary",
) -> Vocabulary:
    """The vocabulary that a setting names or spells out.

    Args:
        source: A vocabulary, returned as it is; anything :func:`load_vocabulary` takes; or, as a
            config or a command line would write it, anything :meth:`Vocabulary.from_dict` takes,
            for example ``["a red ring", "a dog"]``.
        origin: What error messages call one that is spelled out.

    Returns:
        The vocabulary.

    Raises:
        ValueError: Unknown name or malformed content.
        FileNotFoundError: A path that does not exist.
    """
    if isinstance(source, Vocabulary):
        return source
    if isinstance(source, str | Path):
        return load_vocabulary(source)
    return Vocabulary.from_dict(source, origin)
