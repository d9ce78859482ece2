"""The parser of all tools, and the options that several of them have: one word for one thing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fineclip.checks import Check, integer_from, nearest, real
from fineclip.configuration.overrides import OverridesAction, split_override

ERRORS_EPILOG = "Exit code 2 and one line on standard error for bad usage or bad input."

LOG_BACKENDS = ("tensorboard", "wandb", "mlflow", "clearml", "neptune", "dvclive", "aim")

_DEVICE = re.compile(r"[a-z]+(:\d+)?")


class ToolParser(argparse.ArgumentParser):
    """A parser whose mistakes are one line, and whose help shows every default.

    Of an option with several names, help shows the first; the others are older names, which keep
    working.

    Args:
        **options: Of ``argparse.ArgumentParser``; the texts keep their lines.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _HelpFormatter, "epilog": ERRORS_EPILOG, **options})

    def error(self, message: str) -> NoReturn:
        """Prints one line, with the likeliest name of an unknown option, and exits with code 2."""
        if found := re.match(r"unrecognized arguments: .*?(--?\w[^\s=]*)", message):
            guess = nearest(found[1], self._names())
            message = f"there is no option {found[1]}; {guess}"
        print(f"error: {' '.join(message.split())} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def _names(self) -> set[str]:
        """The long names of all options, those of subcommands included."""
        names = {name for name in self._option_string_actions if name.startswith("--")}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                names.update(*(parser._names() for parser in action.choices.values()))
        return names


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """One name of each option, with its default in one way: ``(default: X)``."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = action.option_strings
        both = isinstance(action, argparse.BooleanOptionalAction)  # --x and --no-x
        if len(names) < 2 or names[0] == "-h" or both:
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else f" {self._format_args(action, action.dest.upper())}"
        return f"{names[0]}{value}"

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        takes_value = action.option_strings and action.nargs != 0
        if not takes_value or action.required or "(default: " in text:
            return text
        default = action.default
        if default is None or default in ([], {}):
            shown = "none"
        elif isinstance(default, list | tuple):
            shown = " ".join(map(str, default))
        else:
            shown = str(default)
        return f"{text} (default: {shown})".replace("%", "%%").strip()


def _checked(convert: Callable[[str], Any], check: Check) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = text
        if not check.accepts(value):
            raise argparse.ArgumentTypeError(f"expected {check.expected}, got {text!r}")
        return value

    return read


def integer_argument(minimum: int) -> Callable[[str], int]:
    """An argument's type: an integer from ``minimum`` on."""
    return _checked(int, integer_from(minimum))


def real_number(
    minimum: float, maximum: float = float("inf"), *, above: bool = False
) -> Callable[[str], float]:
    """An argument's type: a number of a range; with ``above``, the minimum itself is too small."""
    return _checked(float, real(minimum, maximum, above=above))


positive = integer_argument(1)
"""An argument's type: an integer from 1 on."""


def device_name(text: str) -> str:
    """An argument's type: a device as torch spells it."""
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:1 or the like, got {text!r}")
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``; None stands for the default, which only torch can tell."""
    parser.add_argument(
        "--device",
        type=device_name,
        metavar="D",
        help="cpu, cuda, cuda:1, ... (default: the accelerator if there is one, else cpu)",
    )


def add_weights(parser: argparse.ArgumentParser, text: str, **options: Any) -> None:
    """Adds ``--weights``, with the names that it had in some of the tools."""
    names = ("--weights", "--checkpoint", "--pretrained")
    parser.add_argument(*names, metavar="W", help=text, **options)


def add_trained_clip(parser: argparse.ArgumentParser, default: Path) -> None:
    """Adds ``--model`` and ``--weights`` of a CLIP, whose training may say the model's name.

    Args:
        parser: The parser.
        default: Work dir of the training that is taken without ``--weights``.
    """
    parser.add_argument(
        "--model",
        metavar="M",
        help="open_clip model name, such as ViT-B-16 (default: what the training beside the "
        "weights says)",
    )
    add_weights(
        parser,
        "open_clip tag, a checkpoint file in any known format, or the work dir of a training "
        f"(default: {default})",
    )


def add_config(parser: argparse.ArgumentParser, text: str, **options: Any) -> None:
    """Adds ``--config``, with the name that detectron2's tools have for it."""
    parser.add_argument("--config", "--config-file", metavar="CONFIG", help=text, **options)


def add_data(parser: argparse._ActionsContainer, text: str, **options: Any) -> None:
    """Adds ``--data FILE``, the description of a data set."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help=f"the data.yaml of a data set, or its folder: {text}",
        **options,
    )


def add_cfg_options(parser: argparse.ArgumentParser, text: str = "overrides of the config") -> None:
    """Adds ``--cfg-options K=V...``, a dict afterwards."""
    parser.add_argument(
        "--cfg-options", nargs="+", action=OverridesAction, default={}, metavar="K=V", help=text
    )


def add_key_values(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds ``--cfg-options K=V...`` for detectron2, a list of alternating keys and values then."""
    parser.add_argument(
        "--cfg-options",
        "--options",
        nargs="+",
        action=_KeyValuesAction,
        default=[],
        metavar="K=V",
        help=f"{text}; also KEY VALUE in turn, as detectron2 has it",
    )


class _KeyValuesAction(argparse.Action):
    """``K=V`` words, or keys and values in turn."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        known = getattr(namespace, self.dest) or []
        if "=" not in values[0]:
            if len(values) % 2:
                pairs = " ".join(values)
                raise argparse.ArgumentError(
                    self, f"KEY VALUE come in pairs, the last of {pairs!r} has no value"
                )
            words = values
        else:
            try:
                words = [part for word in values for part in split_override(word)]
            except ValueError as error:
                raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, [*known, *words])


def add_images_and_names(parser: argparse.ArgumentParser) -> None:
    """Adds ``IMAGE...`` and either ``--vocabulary NAME...`` or ``--vocabulary-file F``."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files or folders of them; they may stand before the options, after -- or "
        "among the words of --vocabulary, where files of images and folders written with a slash "
        "(photos/) are taken for images",
    )
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--vocabulary", nargs="+", metavar="NAME", help="what to look for")
    names.add_argument(
        "--vocabulary-file",
        metavar="F",
        help="file of names (a name a line, or JSON), or the name of a built-in vocabulary",
    )


def add_log_to(parser: argparse.ArgumentParser, beside: str) -> None:
    """Adds ``--log-to``, names of :data:`fineclip.configuration.backends.BACKENDS`; None: not said.

    Args:
        parser: The parser.
        beside: The file of scalars that is written in any case.
    """
    parser.add_argument(
        "--log-to",
        nargs="*",
        choices=LOG_BACKENDS,
        metavar="B",
        help=f"where curves go beside {beside}: any of {', '.join(LOG_BACKENDS)}; plain --log-to: "
        "nowhere (default: what the config says, tensorboard)",
    )


def check_out_file(file: Path | None, option: str = "--out") -> None:
    """Checks that a file can be written, before hours are spent on its content.

    Raises:
        FileNotFoundError: Its folder does not exist.
        PermissionError: The folder may not be written to.
        IsADirectoryError: The file is a folder.
    """
    if file is None:
        return
    if file.is_dir():
        raise IsADirectoryError(f"{option}: {file} is a folder; name a file in it")
    if not file.resolve().parent.is_dir():
        raise FileNotFoundError(f"{option}: folder {file.resolve().parent} does not exist")
    if not os.access(file.resolve().parent, os.W_OK):
        raise PermissionError(f"{option}: folder {file.resolve().parent} may not be written to")


def add_experiment(parser: argparse.ArgumentParser, work_dir: Path) -> None:
    """Adds ``--work-dir``, with its default, and ``--seeds`` of a table of trainings."""
    parser.add_argument(
        "--work-dir", type=Path, default=work_dir, metavar="D", help="where everything goes"
    )
    parser.add_argument(
        "--seeds",
        type=integer_argument(0),
        nargs="+",
        default=[0],
        metavar="S",
        help="a table of means over them",
    )


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--captioner`` and ``--twins``; what is given is in the dict ``scenes`` afterwards."""
    parser.set_defaults(scenes={})
    parser.add_argument(
        "--captioner",
        type=_captioner_rate,
        nargs="+",
        action=_SceneOptionAction,
        metavar="ERROR=RATE",
        help="how often captions of training regions err, such as wrong_color=0.1; the word none: "
        "they are all true (default: rates from the literature; docs/data.md lists them)",
    )
    parser.add_argument(
        "--twins",
        type=real_number(0, 1),
        action=_SceneOptionAction,
        metavar="SHARE",
        help="share of the validation images that are pairs of near-twins (default: 0.5)",
    )


def _captioner_rate(text: str) -> tuple[str, float] | None:
    if text == "none":
        return None
    name, equals, rate = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected none or ERROR=RATE, got {text!r}")
    return name, real_number(0, 1)(rate)


class _SceneOptionAction(argparse.Action):
    """One more argument of ``make_scenes``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if isinstance(values, list):
            values = None if None in values else dict(values)
        namespace.scenes = {**namespace.scenes, self.dest: values}


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Adds ``--launcher``."""
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch"),
        default="none",
        help="pytorch: one of several processes that torchrun starts",
    )


def check_launcher(launcher: str) -> None:
    """Checks that torchrun has started this process where it should have.

    Raises:
        ValueError: It has not.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name not in os.environ]
    if launcher == "pytorch" and missing:
        raise ValueError(f"--launcher pytorch: {', '.join(missing)} not set; start with torchrun")


def check_key_values(options: Sequence[str]) -> None:
    """Holds overrides of a segmenter's configuration against its defaults, without torch.

    The defaults are read off the source of detectron2 and of ``segmentation``, neither imported.

    Args:
        options: Keys and values in turn.

    Raises:
        ValueError: There is no such key, or the value is of another type.
    """
    from fineclip.configuration import sources  # --help needs neither
    from fineclip.configuration.nodes import override  # the same

    library, own = map(sources.package_folder, ("detectron2", "segmentation"))
    if library is None or own is None:
        return
    defaults = sources.assigned_defaults(library / "config" / "defaults.py", "_C")
    for table in sources.assigned_tables(own / "detectron2" / "config.py"):
        for place, keys in table.items():
            node = defaults
            for part in filter(None, place.split(".")):
                node = node.setdefault(part, {})
            node |= keys
    for key, word in zip(options[::2], options[1::2], strict=True):
        override(defaults, key, word)
