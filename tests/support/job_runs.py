"""Work without processes of its own: each of them would import everything again."""

import io
import logging
import runpy
import subprocess
import sys
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
from mmengine.visualization import Visualizer

from fineclip.experiments import engine, job, measuring


@contextmanager
def _root_level_kept():
    """A process of its own may silence what others log; tests of logs come after it."""
    level = logging.root.level
    try:
        yield
    finally:
        logging.root.setLevel(level)


class InProcess:
    """Stands in for a process that runs a job; it has ended when it has started."""

    def __init__(self, command, *, stdout, stderr=None, **options):
        # They are named by the second: a job would log into the folder of the one before it.
        Visualizer._instance_dict.clear()
        errors = stdout if stderr == subprocess.STDOUT else sys.stderr
        with _root_level_kept(), redirect_stdout(stdout), redirect_stderr(errors):
            self.code = job.main([command[-1]])

    def poll(self):
        return self.code


@contextmanager
def jobs_in_process():
    """Jobs that are started in this context run in this process."""
    stand_in = SimpleNamespace(
        Popen=InProcess, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "subprocess", stand_in)
        yield


def _run_module(command, limit):
    """``run_group`` of ``python -m MODULE ARGUMENTS``, in this process."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        _root_level_kept(),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", [command[2], *command[3:]])
        # As a process of its own would see it: not imported yet.
        patch.delitem(sys.modules, command[2], raising=False)
        try:
            runpy.run_module(command[2], run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except Exception:
            errors.write(traceback.format_exc())
            code = 1
    return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())


@contextmanager
def measurements_in_process():
    """What ``call_in_process`` would start in this context runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "run_group", _run_module)
        yield
