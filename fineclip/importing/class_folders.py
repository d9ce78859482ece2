"""A folder of images for each class, with or without folders of splits around them."""

from __future__ import annotations

from pathlib import Path

from fineclip.annotations import FileReport
from fineclip.datasets.image_folder import read_class_map
from fineclip.importing.classes import given_classes
from fineclip.importing.finding import SourceFiles, split_of
from fineclip.importing.source import ImportOptions, SourceData, SourceImage
from fineclip.text.templates import prompt_name


def read_folders(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads images whose folder says what they show.

    Such an image gets its class's name as a caption, and no box: one around the whole image would
    teach a detector that objects fill images.

    Args:
        files: The source.
        options: ``classes`` (their order), ``class_map`` and ``images`` are read.

    Returns:
        Its images with class and caption; classes are in the order of their folders' names.

    Raises:
        FileNotFoundError: There are no images.
        ValueError: Images that lie in no folder of a class, or folders that no option names.
    """
    report = FileReport(str(files.given))
    places = {image: image.relative_to(files.image_root).parts for image in files.require_images()}
    tops = {parts[0] for parts in places.values() if len(parts) > 1}
    while len(tops) == 1 and not split_of(list(tops)) and min(map(len, places.values())) > 2:
        places = {image: parts[1:] for image, parts in places.items()}  # one folder around all
        tops = {parts[0] for parts in places.values()}
    with_splits = bool(tops) and all(split_of([top]) for top in tops)
    first = 1 if with_splits else 0
    images: list[tuple[SourceImage, str]] = []
    for path, parts in places.items():
        if len(parts) < first + 2:
            report.add("dropped", "images that lie in no folder of a class", "/".join(parts))
            continue
        split = split_of(parts[:1]) if with_splits else None
        images.append((SourceImage(path, split), parts[first]))
    folders = sorted({folder for _, folder in images})
    if len(folders) < 2:
        there = f"only {folders[0]}/" if folders else "none"
        raise ValueError(
            f"{files.image_root}: expected a folder of images for each class, or train/ and val/ "
            f"with such folders, but there is {there}; is it another format (--from), or are "
            "they elsewhere (--images DIR)?"
        )
    names = _names(folders, options.class_map)
    classes = given_classes(options.classes) or list(dict.fromkeys(n[0] for n in names.values()))
    for image, folder in images:
        name = names[folder][0]
        if name not in classes:
            raise ValueError(
                f"{files.image_root}: the folder {folder}/ is of no class that --classes names; "
                "--class-map FILE says which class a folder is"
            )
        image.label = classes.index(name)
        image.captions = [f"a photo of {prompt_name(name)}"]
    synonyms = {own[0]: list(own[1:]) for own in names.values() if len(own) > 1}
    return SourceData([image for image, _ in images], classes, report, synonyms=synonyms)


def _names(folders: list[str], class_map: Path | None) -> dict[str, tuple[str, ...]]:
    if class_map is None:
        return {folder: (folder,) for folder in folders}
    names = read_class_map(class_map)
    if missing := [folder for folder in folders if folder not in names]:
        raise ValueError(f"--class-map: {class_map} has no name for the folder {missing[0]}/")
    return {folder: names[folder] for folder in folders}
