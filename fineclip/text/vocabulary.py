"""Category lists of the benchmarks: which classes there are, in which order, under which ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fineclip.files import read_json

Split = Literal["base", "novel"]

_FOLDER = Path(__file__).parent / "vocabularies"


@dataclass(frozen=True)
class Category:
    """One class of a vocabulary.

    Args:
        name: Text that goes into prompts, byte for byte as the benchmark writes it.
        id: Id (or pixel value) in the data set's annotation files, None where it has none.
        synonyms: All names of the class in the data set's order; ``(name,)`` where it lists none.
        split: ``"base"``, ``"novel"`` or None.
        isthing: True for countable things, False for stuff, None where the data set does not say.
        frequency: LVIS's ``"r"``, ``"c"`` or ``"f"``, else None.
        image_count: Training images that show the class (LVIS), else None.
    """

    name: str
    id: int | None = None
    synonyms: tuple[str, ...] = ()
    split: Split | None = None
    isthing: bool | None = None
    frequency: str | None = None
    image_count: int | None = None


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of classes; the position is the class index used everywhere.

    Names may repeat (nine do in ``ade847``), so look classes up by index or id.

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
        """All names of each of the K classes."""
        return tuple(category.synonyms or (category.name,) for category in self.categories)

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

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any] | Sequence[Any], origin: str = "vocabulary"
    ) -> Vocabulary:
        """Builds a vocabulary from the content of a JSON file.

        Args:
            data: Mapping with ``"categories"``, a list of names or of mappings with at least
                ``"name"``, as in this package's files. Or, shorter, that list alone. Or a mapping
                from each name to null, to its id, to the list of its synonyms, or to a mapping
                with the other keys of a category.
            origin: What error messages call the data, normally the file's path.

        Returns:
            The vocabulary, categories in the order of the list.

        Raises:
            ValueError: A missing or malformed key; the message names ``origin`` and the key.
        """
        data = _long_form(data, origin)
        try:
            return cls(
                name=str(data.get("name", Path(origin).stem)),
                categories=_categories(data["categories"], f"{origin}: categories"),
                unused=_categories(
                    data.get("unused_categories", []), f"{origin}: unused_categories"
                ),
                source=str(data.get("source", "")),
                notes=tuple(data.get("notes", ())),
            )
        except ValueError as error:
            message = str(error)
            raise ValueError(message if origin in message else f"{origin}: {message}") from None

    @classmethod
    def from_coco(cls, source: str | Path | Mapping[str, Any]) -> Vocabulary:
        """Takes the categories of a COCO-format annotation file, in ascending order of their ids.

        Args:
            source: Path of a JSON file with the key ``"categories"``, or its loaded content.

        Returns:
            The vocabulary; ``isthing``, ``synonyms`` and LVIS's keys are kept where given.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Not JSON, or its categories lack a name or an integer id.
        """
        if isinstance(source, Mapping):
            return cls._from_coco(source, "annotations")
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


def _is_annotations(data: Any) -> bool:
    return isinstance(data, Mapping) and ("images" in data or "annotations" in data)


def _long_form(data: Any, origin: str) -> Mapping[str, Any]:
    """Content with the key "categories", from any of the forms that ``from_dict`` takes."""
    if isinstance(data, Mapping):
        if "categories" in data:
            return data
        if not _is_annotations(data):
            return {"categories": [_named(name, data[name], origin) for name in data]}
    elif isinstance(data, Sequence) and not isinstance(data, str):
        return {"categories": data}
    raise ValueError(
        f"{origin}: expected a JSON object with the key 'categories', a list of names, or an "
        "object of names"
    )


def _named(name: str, value: Any, origin: str) -> Mapping[str, Any]:
    """One entry of the form {name: value}."""
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
        f"a category, got {value!r}"
    )


def _categories(entries: Any, origin: str) -> tuple[Category, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"{origin}: expected a list of categories, got {type(entries).__name__}")
    return tuple(_category(entry, f"{origin}[{index}]") for index, entry in enumerate(entries))


def _category(entry: Any, origin: str) -> Category:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping):
        raise ValueError(f"{origin}: expected a name or an object, got {type(entry).__name__}")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{origin}: 'name' must be a non-empty string, got {name!r}")
    id_ = entry.get("id")
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, int)):
        raise ValueError(f"{origin}: 'id' must be an integer or null, got {id_!r}")
    split = entry.get("split")
    if split not in (None, "base", "novel"):
        raise ValueError(f"{origin}: 'split' must be 'base' or 'novel', got {split!r}")
    isthing = entry.get("isthing")
    if isthing not in (None, 0, 1):
        raise ValueError(f"{origin}: 'isthing' must be 0 or 1, got {isthing!r}")
    synonyms = entry.get("synonyms", ())
    if isinstance(synonyms, str) or not all(isinstance(synonym, str) for synonym in synonyms):
        raise ValueError(f"{origin}: 'synonyms' must be a list of strings, got {synonyms!r}")
    return Category(
        name=name,
        id=id_,
        synonyms=tuple(synonyms) or (name,),
        split=split,
        isthing=None if isthing is None else bool(isthing),
        frequency=entry.get("frequency"),
        image_count=entry.get("image_count"),
    )


def known_vocabularies() -> tuple[str, ...]:
    """Names of the vocabularies that come with the package, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


def load_vocabulary(name_or_path: str | Path) -> Vocabulary:
    """Loads a vocabulary by name or from a file.

    Args:
        name_or_path: One of :func:`known_vocabularies`, or the path of a JSON file: a vocabulary
            (see :meth:`Vocabulary.from_dict`), taken in its order; or COCO-format annotations
            (known by the key ``"images"`` or ``"annotations"``), taken in ascending order of ids.

    Returns:
        The vocabulary.

    Raises:
        ValueError: Unknown name, or a malformed file; the message names file and key.
        FileNotFoundError: A path with a suffix that does not exist.
    """
    known = known_vocabularies()
    if str(name_or_path) in known:
        path = _FOLDER / f"{name_or_path}.json"
    else:
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        # The suffix tells what was meant: a file that is missing, or a name that is not known.
        kind = FileNotFoundError if path.suffix else ValueError
        raise kind(
            f"unknown vocabulary {str(name_or_path)!r}: expected one of {', '.join(known)}, "
            "or the path of an existing JSON file"
        )
    data = read_json(path, "vocabulary")
    if _is_annotations(data):
        return Vocabulary._from_coco(data, str(path))
    return Vocabulary.from_dict(data, str(path))


def as_vocabulary(
    source: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any],
) -> Vocabulary:
    """The vocabulary that a setting names or spells out.

    Args:
        source: A vocabulary, returned as it is; anything :func:`load_vocabulary` takes; or, as a
            config or a command line would write it, anything :meth:`Vocabulary.from_dict` takes,
            for example ``["a red ring", "a dog"]``.

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
    return Vocabulary.from_dict(source)
