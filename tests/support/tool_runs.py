"""A command's ``main`` in this process, which does not import torch, mmdet and detectron2 again."""

import contextlib
import gc
import importlib.util
import io
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

ROOT = Path(__file__).parents[2]


def load_tool(name: str) -> ModuleType:
    """Runs ``tools/<name>`` as a module of its own, under a name that nothing else has.

    ``import tools`` is no way to it: the official detectron2 installs a package of that name.
    """
    spec = importlib.util.spec_from_file_location(f"_tool_{Path(name).stem}", ROOT / "tools" / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their annotations there
    spec.loader.exec_module(module)
    return module


def run_in_process(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Calls the ``main`` of ``tools/<name>`` and returns what its process would have.

    What the command prints is captured at the file descriptors, so that the output of the processes
    it starts is part of it. What it changes for its own process, such as logging, is put back.
    """
    argv = [str(arg) for arg in args]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with as_a_fresh_process(), _output_to(out, err):
            sys.argv = [str(ROOT / "tools" / name), *argv]
            try:
                code = load_tool(name).main(argv)
            except SystemExit as stop:
                code = stop.code
                if isinstance(code, str):
                    print(code, file=sys.stderr)
            except Exception:
                traceback.print_exc()
                code = 1
        texts = []
        for file in (out, err):
            file.seek(0)
            # As subprocess does with text=True.
            texts.append(io.TextIOWrapper(file, newline=None).read())
    code = 1 if isinstance(code, str) else int(code or 0)
    return subprocess.CompletedProcess([name, *argv], code, *texts)


@contextlib.contextmanager
def _output_to(out: io.IOBase, err: io.IOBase) -> Iterator[None]:
    """Sends standard output and standard error of this process and its children to files."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _end_loaders() -> None:
    """Ends workers as the end of a process would: the garbage collector waits 5 s for each."""
    if multiprocessing.active_children():
        for item in gc.get_objects():
            if type(item) is _MultiProcessingDataLoaderIter:
                item._shutdown_workers()


@contextlib.contextmanager
def as_a_fresh_process() -> Iterator[None]:
    """Working directory, warnings, logging and the like as a new process has them, until the end.

    The caches of imported modules stay: sparing the imports is the point.
    """
    with contextlib.ExitStack() as undo:
        environment = dict(os.environ)
        undo.callback(_end_loaders)
        undo.callback(_register_segmentation_datasets)
        undo.callback(os.environ.update, environment)
        undo.callback(os.environ.clear)
        undo.callback(os.chdir, Path.cwd())
        os.chdir(ROOT)
        for name in ("argv", "path", "excepthook"):
            value = getattr(sys, name)
            undo.callback(setattr, sys, name, value[:] if isinstance(value, list) else value)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            undo.callback(signal.signal, number, signal.getsignal(number))
        undo.callback(
            multiprocessing.set_start_method,
            multiprocessing.get_start_method(allow_none=True),
            force=True,
        )

        undo.callback(torch.set_num_threads, torch.get_num_threads())
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        undo.callback(
            torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()
        )
        undo.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        for name in ("benchmark", "deterministic"):
            value = getattr(torch.backends.cudnn, name)
            undo.callback(setattr, torch.backends.cudnn, name, value)
        undo.callback(torch.set_rng_state, torch.get_rng_state())
        undo.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        undo.callback(random.setstate, random.getstate())

        undo.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for category in (
            *(DeprecationWarning, PendingDeprecationWarning),
            *(ImportWarning, ResourceWarning),
        ):
            warnings.simplefilter("ignore", category)
        # pytest keeps warnings for its summary; a process writes them.
        warnings.showwarning = _write_warning

        undo.enter_context(_fresh_logging())
        undo.enter_context(_fresh_mmengine())
        _register_segmentation_datasets()
        yield


def _write_warning(message, category, filename, lineno, file=None, line=None) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


@contextlib.contextmanager
def _fresh_logging() -> Iterator[None]:
    """No logger writes anywhere yet; handlers that are added are closed and taken away again."""
    manager = logging.root.manager
    before = {}
    for logger in _loggers():
        before[logger] = (
            *(logger.handlers, logger.level),
            *(logger.propagate, logger.disabled, logger.filters),
        )
        logger.handlers, logger.filters = [], logger.filters[:]
    logging.root.setLevel(logging.WARNING)
    disable = manager.disable
    _forget_detectron2_loggers()
    try:
        yield
    finally:
        manager.disable = disable
        for logger in _loggers():
            for handler in logger.handlers:
                handler.close()
            state = before.get(logger, ([], logging.NOTSET, True, False, []))
            logger.handlers, level, logger.propagate, logger.disabled, logger.filters = state
            logger.setLevel(level)
        _forget_detectron2_loggers()


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(item for item in known if isinstance(item, logging.Logger))]


def _forget_detectron2_loggers() -> None:
    """detectron2 sets up a logger of one name and file once in a process."""
    module = sys.modules.get("detectron2.utils.logger")
    for name in ("setup_logger", "_cached_log_stream"):
        getattr(getattr(module, name, None), "cache_clear", lambda: None)()


@contextlib.contextmanager
def _fresh_mmengine() -> Iterator[None]:
    """None of the instances that mmengine keeps by name: runs, visualizers, the default scope."""
    module = sys.modules.get("mmengine.utils.manager")
    managed = _subclasses(module.ManagerMixin) if module else []
    before = [(kind, kind._instance_dict) for kind in managed]
    for kind, instances in before:
        kind._instance_dict = type(instances)()
    try:
        yield
    finally:
        module = sys.modules.get("mmengine.utils.manager")
        for kind in _subclasses(module.ManagerMixin) if module else []:
            for instance in kind._instance_dict.values():
                for handler in getattr(instance, "handlers", ()):
                    handler.close()
            kind._instance_dict = type(kind._instance_dict)()
        for kind, instances in before:
            kind._instance_dict = instances


def _subclasses(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))]


def _register_segmentation_datasets() -> None:
    """Importing ``segmentation`` registers the data sets of the folder in the environment."""
    register = getattr(sys.modules.get("segmentation.data"), "register_datasets", None)
    if register is not None:
        register()


def opens_with_ten_lines_and_warns_of_nothing(
    done: subprocess.CompletedProcess[str], but: str = "no warning at all"
) -> None:
    """Holds that a healthy training says what it does in ten lines and warns of nothing ``but``."""
    lines = done.stdout.splitlines()
    titles = [line.split(maxsplit=1)[0] for line in lines[:10]]
    assert titles[:3] + titles[5:] == [
        *("model", "start", "data"),
        *("device", "precision", "memory", "results", "log"),
    ]
    assert titles[3] in ("objective", "objectives") and titles[4] == "schedule"
    said = [line for line in (done.stdout + done.stderr).splitlines() if but not in line]
    text = "\n".join(said).lower()
    assert "warning" not in text and "deprecated" not in text, text
    assert "environment info" not in text and "system environment" not in text


def run_as_process(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Runs ``tools/<name>`` in a process of its own, where that is what is tested."""
    return subprocess.run(
        [sys.executable, ROOT / "tools" / name, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )


@contextlib.contextmanager
def absent(*packages: str) -> Iterator[None]:
    """As if packages were not installed: what is built on them is imported anew, without them."""
    renewed = {"detection", "segmentation", *packages}

    def taken_out() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.split(".")[0] in renewed]
        return {name: sys.modules.pop(name) for name in names}

    before = taken_out()
    sys.modules.update(dict.fromkeys(packages))  # None makes `import NAME` raise ImportError
    try:
        yield
    finally:
        taken_out()
        sys.modules.update(before)
