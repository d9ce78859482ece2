"""What all tools have in common: --help at once, one word for one thing, every default shown."""

import argparse
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image
from tool_runs import load_tool

from fineclip.checkpoints.conversion import TARGETS
from fineclip.command_line.images import asked_images
from fineclip.command_line.options import LOG_BACKENDS
from fineclip.configuration.backends import BACKENDS
from fineclip.evaluation.tasks import TASKS
from fineclip.models import BACKGROUND
from fineclip.models.class_embedding_files import SUFFIX
from fineclip.models.embedding_cache import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
TOOLS = sorted(file.name for file in (ROOT / "tools").glob("*.py"))

OLD_NAMES = {
    "--batch": "--batch-size",
    "--checkpoint": "--weights",
    "--config-file": "--config",
    "--image": "--image-size",
    "--options": "--cfg-options",
    "--pretrained": "--weights",
    "--root": "--data-root",
    "--size": "--image-size",
    "--text-pretrained": "--text-weights",
}
"""What some tools called a thing before, which keeps working, and the one word for it."""


def test_help_needs_no_library():
    """What it costs is Python's own start: nothing heavy is imported, in a process for all."""
    program = textwrap.dedent(
        """
        import contextlib, io, json, runpy, sys
        heavy = {"cv2", "detectron2", "gradio", "matplotlib", "mmdet", "mmengine", "numpy",
                 "open_clip", "PIL", "timm", "torch", "tqdm", "transformers"}
        answers = {}
        for tool in json.load(sys.stdin):
            for argument in ("--help", "--no-such-option"):
                sys.argv = [f"tools/{tool}", argument]
                out, err = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    try:
                        runpy.run_path(sys.argv[0], run_name="__main__")
                    except SystemExit as stop:
                        code = stop.code
                answers[f"{tool} {argument}"] = [code, len(out.getvalue().splitlines()),
                                                 len(err.getvalue().splitlines()),
                                                 sorted(heavy & sys.modules.keys())]
        json.dump(answers, sys.stdout)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(TOOLS),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    for call, (code, out, err, imported) in json.loads(done.stdout).items():
        assert imported == [], call
        if call.endswith("--help"):
            assert (code, out > 3, err) == (0, True, 0), call
        else:
            assert (code, out, err) == (2, 0, 1), call


class Captured(Exception):
    """Carries the parser that a tool has built."""


def parsers_of(tool, monkeypatch):
    """The parser of a tool, and those of its subcommands."""

    def capture(parser, *arguments):
        raise Captured(parser)

    with monkeypatch.context() as patch, pytest.raises(Captured) as caught:
        patch.setattr(argparse.ArgumentParser, "parse_args", capture)
        load_tool(tool).parse_args([])
    todo, found = [caught.value.args[0]], []
    while todo:
        found.append(todo.pop())
        for action in found[-1]._actions:
            if isinstance(action, argparse._SubParsersAction):
                todo.extend(action.choices.values())
    return found


def options_of(parser):
    return [a for a in parser._actions if a.option_strings and a.dest != "help"]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_default_is_shown_in_one_way(tool, monkeypatch):
    for parser in parsers_of(tool, monkeypatch):
        formatter = parser._get_formatter()
        for action in options_of(parser):
            text = formatter._expand_help(action)
            assert action.help, action.option_strings
            assert text.count("default: ") <= 1 and "%" not in text.replace("%%", ""), text
            if action.nargs != 0 and not action.required:
                assert "default: " in text, action.option_strings
                default = action.default
                if isinstance(default, int | float | str) and not isinstance(default, bool):
                    assert f"(default: {default}" in text, action.option_strings


@pytest.mark.parametrize("tool", TOOLS)
def test_one_word_for_one_thing(tool, monkeypatch):
    """Old names are understood and not shown."""
    for parser in parsers_of(tool, monkeypatch):
        names = [action.option_strings for action in options_of(parser)]
        assert {first for first, *_ in names} & OLD_NAMES.keys() == set()
        for first, *others in names:
            old = {other for other in others if other != first.replace("--", "--no-")}
            assert {OLD_NAMES.get(other) for other in old} <= {first}
        shown = set(parser.format_help().replace(",", " ").replace("]", " ").split())
        assert shown & OLD_NAMES.keys() == set()


def test_words_that_parsers_repeat_are_the_packages():
    """Parsers do not import the packages, which takes seconds."""
    assert load_tool("evaluate_clip.py").TASKS == TASKS
    assert load_tool("convert_checkpoint.py").TARGETS == TARGETS
    assert tuple(BACKENDS) == LOG_BACKENDS
    classes = load_tool("build_class_embeddings.py")
    assert (classes.BACKGROUND, classes.SUFFIX) == (BACKGROUND, SUFFIX)
    assert classes.CACHE_VARIABLE == CACHE_VARIABLE


def test_settings_of_the_segmentation_benchmark():
    pytest.importorskip("detectron2")
    from segmentation.experiments.inference_benchmark import MODES, InferenceSettings

    tool, defaults = load_tool("benchmark_segmentation.py"), InferenceSettings()
    assert tuple(MODES) == tool.MODES
    args = tool.parse_args([])
    assert (args.model, args.vocabulary, args.grid) == (
        defaults.model,
        defaults.vocabulary,
        defaults.grid,
    )
    assert tuple(args.image_size) == (defaults.height, defaults.width)


def test_modes_of_the_detection_benchmark():
    pytest.importorskip("mmdet")
    from detection.experiments.inference_benchmark import MODES

    assert tuple(MODES) == load_tool("benchmark_detection.py").MODES


@pytest.mark.parametrize("tool", ["detect.py", "segment.py"])
@pytest.mark.parametrize(
    "command",
    [
        "a.png photos --vocabulary cat red/blue",
        "--vocabulary cat red/blue -- a.png photos",
        "--vocabulary cat red/blue a.png photos/",
        "--vocabulary a.png cat ./photos red/blue",
        "a.png --vocabulary cat red/blue photos/",
        "--vocabulary cat red/blue --device cpu a.png photos",
        "--device cpu a.png photos --vocabulary cat red/blue",
        "--vocabulary-file names.txt a.png photos",
    ],
)
def test_images_and_vocabulary_in_any_order(tool, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "cat").mkdir()  # a folder that a name happens to be called after
    for file in ("a.png", "photos/b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / file)
    args = load_tool(tool).parse_args(command.split())
    assert {str(file) for file in asked_images(args)} == {"a.png", "photos/b.png"}
    assert args.vocabulary in (None, ["cat", "red/blue"])


def test_images_without_a_name(tmp_path):
    args = load_tool("detect.py").parse_args(["--vocabulary", f"{tmp_path}/"])
    with pytest.raises(ValueError, match="images alone, without a name"):
        asked_images(args)


def test_overrides_of_detectron2_in_both_ways():
    tool = load_tool("train_segmentation.py")
    words = ["--config", "c.yaml", "--work-dir", "w", "--cfg-options", "SEED=1", "A.B=(1, 2)"]
    pairs = ["SEED", "1", "A.B", "(1, 2)", "OUTPUT_DIR", "w"]
    assert tool.parse_args(words).options == pairs
    assert tool.parse_args(["--config-file", "c.yaml", "--num-gpus", "2", *pairs]).options == pairs
    words = ["i.png", "--vocabulary", "cat", "--options", "SEED", "1"]
    assert load_tool("segment.py").parse_args(words).cfg_options == ["SEED", "1"]
