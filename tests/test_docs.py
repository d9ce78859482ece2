"""The pages: links lead somewhere, paths exist, commands are understood, Python runs."""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from fineclip.models import DenseCLIP

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PACKAGES = ("fineclip", "detection", "segmentation")
FOLDERS = (*PACKAGES, "configs", "docs", "requirements", "tests", "tools")
PAGES = sorted([README, *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
MAIN_PAGES = [page for page in PAGES if page.parent in (ROOT, ROOT / "docs")]
OPTIONAL = {"mmdet", "mmcv", "lvis", "detectron2"}  # libraries that --minimal leaves out
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`", flags=re.DOTALL)
# A path from the repository's root: not the tail of another path, up to what ends a word.
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*")
TOOL = re.compile(r"tools/(\w+)\.py")

per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
per_main_page = pytest.mark.parametrize("page", MAIN_PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text("utf-8"))


def code(page: Path) -> list[str]:
    """All code of a page: fenced and indented blocks, and spans, which may be wrapped."""
    fenced = [text for _, text in BLOCK.findall(page.read_text("utf-8"))]
    indented = re.findall(r"(?:^ {4}.*\n)+", prose(page), flags=re.MULTILINE)
    return [*fenced, *indented, *(" ".join(span.split()) for span in SPAN.findall(prose(page)))]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Name and arguments of every Python tool that a bash block of the page runs."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for place, word in enumerate(words):
                if match := TOOL.fullmatch(word):
                    found.append((match[1], words[place + 1 :]))
    return found


@cache
def tool(name: str) -> ModuleType:
    """A tool as a module, by its file: ``import tools`` may be somebody else's package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            pytest.skip(f"tools/{name}.py needs {error.name}")
        raise
    return module


class Captured(Exception):
    """Carries the parser that a tool has built."""


def option_names(name: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every option of a tool and of its subcommands."""

    def capture(parser: argparse.ArgumentParser, *arguments: object) -> None:
        raise Captured(parser)

    with monkeypatch.context() as patch, pytest.raises(Captured) as caught:
        patch.setattr(argparse.ArgumentParser, "parse_args", capture)
        tool(name).parse_args([])
    parsers, names = [caught.value.args[0]], set()
    while parsers:
        for action in parsers.pop()._actions:
            names.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return names


def heading_anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@per_page
def test_links(page):
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in heading_anchors(file)):
            broken.append(target)
    assert broken == []


@per_page
def test_paths(page):
    def alternatives(path: str) -> list[str]:
        """The paths that a shell makes of one with {a,b}."""
        if match := re.search(r"\{([^{}]*)\}", path):
            choices = match[1].split(",")
            return [a for c in choices for a in alternatives(path.replace(match[0], c, 1))]
        return [path]

    named = {word.rstrip(".,") for word in PATH.findall(page.read_text("utf-8"))}
    paths = {path for word in named for path in alternatives(word)}
    # The page of a folder may name what lies in it from there.
    roots = {ROOT, page.parent}
    missing = {path for path in paths if not any(any(root.glob(path)) for root in roots)}
    assert sorted(missing) == []


@per_page
def test_options_are_known(page, monkeypatch):
    unknown = []
    for part in code(page):
        for line in part.replace("\\\n", " ").splitlines():
            if not (match := re.search(r"\b(?:python|torchrun) .*?tools/(\w+)\.py(.*)", line)):
                continue
            options = re.findall(r"(?<![\w-])--[a-z][\w-]*", match[2].split("#")[0])
            if options:
                known = option_names(match[1], monkeypatch)
                unknown += [f"tools/{match[1]}.py {name}" for name in options if name not in known]
    assert unknown == []


def test_every_job_of_the_readme_has_a_command():
    jobs = {"train", "evaluate_clip", "detect", "train_segmentation", "segment", "ablate"}
    assert {name for name, _ in commands(README)} >= jobs | {"convert_checkpoint"}


@per_main_page
def test_commands_are_understood(page, monkeypatch):
    # Relative paths of commands start at the root.
    monkeypatch.chdir(ROOT)
    for name, arguments in commands(page):
        try:
            args = tool(name).parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{page.name}: tools/{name}.py does not take {shlex.join(arguments)}")
        # Overrides have to name what the config has; described data would have to be there.
        if getattr(args, "data", None):
            continue
        if name == "train_segmentation":
            pytest.importorskip("detectron2")
            from segmentation.engine import load_config

            load_config(args.config, args.options)
        elif getattr(args, "config", None):
            if "detection" in args.config:
                pytest.importorskip("mmdet")
            from fineclip.engine import load_config

            load_config(args.config, args.cfg_options)


@per_main_page
def test_python_is_up_to_date(page):
    """Everything that a page imports exists."""
    for block in blocks(page, "python"):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom):
                try:
                    module = importlib.import_module(node.module)
                except ModuleNotFoundError as error:
                    if error.name in OPTIONAL:
                        pytest.skip(f"needs {error.name}")
                    raise
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert missing == [], node.module


def test_readme_python_runs(tmp_path, monkeypatch):
    """As written, with a tiny model in place of the named one; comments say the shapes."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (48, 64), "orange").save("photo.jpg")
    tiny = DenseCLIP.create("ViT-Ti-16")
    monkeypatch.setattr(DenseCLIP, "create", lambda *_: tiny)
    (block,) = blocks(README, "python")
    with torch.no_grad():
        exec(block, names := {})
    shapes = re.findall(r"^(\w+) = .*# \((\d+), 512(.*)\)$", block, flags=re.MULTILINE)
    assert [name for name, *_ in shapes] == ["image", "text", "regions", "dense"]
    for name, rows, rest in shapes:
        assert str(tuple(names[name].shape)) == f"({rows}, {names['image'].shape[1]}{rest})", name


def test_picture_of_scenes_is_made_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "docs" / "data.md", "python")
    exec(block, {})
    made = (tmp_path / "scenes.png").read_bytes()
    assert made.startswith(b"\x89PNG")
    assert len(made) < 300_000
    assert (ROOT / "docs" / "scenes.png").stat().st_size < 300_000


def test_readme_figure_is_true():
    """Every room of fineclip has a place, and imports from floors below its own alone."""
    figure = next(block for block in blocks(README, "") if "fineclip:" in block)
    rows = [line.split() for line in figure.split("fineclip:\n")[1].splitlines()]
    floor = {room: -number for number, rooms in enumerate(rows) for room in rooms}
    rooms, climbing = set(), set()
    for path in (ROOT / "fineclip").rglob("*.py"):
        room = path.relative_to(ROOT / "fineclip").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        rooms.add(room)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fineclip."):
                other = node.module.split(".")[1]
                if other != room and floor.get(other, 0) >= floor.get(room, 0):
                    climbing.add((room, other))
    assert rooms == set(floor)
    assert climbing == set()


def test_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 210
