"""What a run would stumble over, told from its config alone: files, names, sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from fineclip.checks import nearest
from fineclip.configuration.model_names import check_model_name, patch_side
from fineclip.configuration.reading import place_of, read_config
from fineclip.configuration.settings import sections
from fineclip.configuration.sources import (
    PACKAGES,
    Signature,
    class_signature,
    package_folder,
    signatures,
)
from fineclip.weights import is_file_name

_FILES = (
    *("image_root", "annotations", "captions", "region_captions", "folder", "ann_file"),
    "instances",
)
_WEIGHTS = ("pretrained", "text_pretrained", "load_from")


def read_sound_config(path: str | Path, options: Mapping[str, Any], parts: Sequence[str]) -> Config:
    """Reads a config and checks, without importing torch, what it names.

    Args:
        path: A Python config file.
        options: Overrides by key.
        parts: Which data are needed: some of "train", "val" and "test".

    Raises:
        FileNotFoundError: The config, data or weights do not exist.
        ValueError: See :func:`fineclip.configuration.reading.read_config`; an unknown argument or
            model, or images that are not made of whole patches.
    """
    config = read_config(path, dict(options))
    content = config._cfg_dict.to_dict()
    check_argument_names(content)
    model = content.get("model_name")
    if isinstance(model, str) and "custom_imports" not in content:
        check_model_name(model, place_of("model_name", options, path))
        check_sizes(config, patch_side(model))
    for key in ("data_root", *_WEIGHTS):
        value = content.get(key)
        missing = isinstance(value, str) and not Path(value).exists()
        if key == "data_root":
            if missing and _names(content, parts, value):
                set_it = "set --cfg-options data_root=FOLDER"
                if "recipe" in content:
                    set_it = "name the data.yaml of your data with --data"
                raise FileNotFoundError(
                    f"{place_of(key, options, path)}: folder {value} does not exist; {set_it}"
                )
        elif missing and is_file_name(value):
            raise FileNotFoundError(
                f"{place_of(key, options, path)}: checkpoint {value} does not exist"
            )
    for key, file in _files(content, parts):
        if not Path(file).exists():
            raise FileNotFoundError(f"{place_of(key, options, path)}: {file} does not exist")
    return config


def check_argument_names(content: Mapping[str, Any]) -> None:
    """Refuses arguments that classes of this project and torch's optimizers do not have.

    Their source is read for it, not run. Values are checked once the classes are loaded, by
    :func:`fineclip.engine.arguments.check_arguments`.

    Raises:
        ValueError: Naming key and class.
    """
    known = {name: found for package in PACKAGES for name, found in signatures(package).items()}
    for path, section in sections(content):
        kind = section.get("type")
        if not isinstance(kind, str):
            continue
        name = kind.rpartition(".")[2]
        signature = known.get(name)
        if path[-1] == "optimizer" and signature is None and (torch := package_folder("torch")):
            signature = class_signature(torch / "optim" / f"{name.lower()}.py", name)
        if signature is not None:
            _check_names(name, signature, section, ".".join(path), known)


def _check_names(
    name: str,
    signature: Signature,
    section: Mapping[str, Any],
    where: str,
    known: Mapping[str, Signature],
) -> None:
    for key, value in section.items():
        if key in ("type", "_scope_", "priority"):  # the last is a hook's, and mmengine's to read
            continue
        if key not in signature.parameters:
            if signature.is_open:
                continue
            hint = nearest(key, signature.parameters)
            raise ValueError(f"{where}.{key}: {name} has no such argument; {hint}")
        kinds = signature.parameters[key]
        if not isinstance(value, Mapping) or "type" in value or kinds & {"str", "Path", "Sequence"}:
            continue
        for part in sorted(kinds & known.keys()):
            _check_names(part, known[part], value, f"{where}.{key}", known)


def check_sizes(config: Config, patch: int | None) -> None:
    """Images, crops and views have to be of whole patches.

    Args:
        config: A finished config of pretraining.
        patch: Pixels of a patch's side; None: not known.

    Raises:
        ValueError: Naming the key.
    """
    for path, dataset in sections(config._cfg_dict.to_dict()):
        if patch is None or path[-1] != "dataset":
            continue
        keys = ["transform.size", "images.transform.size", "views.global_size", "views.local_size"]
        if "crops" in dataset.get("fields", ("crops",)):
            keys += ["images.crop_transform.size", "images.crop_patch"]
        for key in keys:
            size: Any = dataset
            for name in key.split("."):
                size = size.get(name) if isinstance(size, Mapping) else None
            if isinstance(size, int) and size % patch:
                raise ValueError(
                    f"config {config.filename}: {'.'.join(path)}.{key} is {size}, no multiple of "
                    f"the model's patch, {patch} x {patch} pixels: change image_size, crop_size, "
                    "crop_patch or local_size"
                )


def _loaders(content: Mapping[str, Any], parts: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for part in parts:
        name = f"{part}_dataloader"
        if content.get(name):
            yield name, content[name]


def _files(content: Mapping[str, Any], parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and path of each file and folder of the data."""
    for name, loader in _loaders(content, parts):
        for keys, section in sections(loader):
            root = section.get("data_root") if "ann_file" in section else None
            for key in _FILES:
                value = section.get(key)
                if isinstance(value, str) and value and "://" not in value:
                    file = str(Path(root, value)) if isinstance(root, str) else value
                    yield ".".join((name, *keys, key)), file


def _names(content: Mapping[str, Any], parts: Sequence[str], root: str) -> bool:
    """Whether the data that are needed lie below a folder."""
    return any(
        isinstance(value, str) and value.startswith(root)
        for _, loader in _loaders(content, parts)
        for _, section in sections(loader)
        for value in section.values()
    )
