"""Jobs without processes of their own: those of a whole table would import everything again."""

import subprocess
from contextlib import contextmanager, redirect_stdout
from types import SimpleNamespace

import pytest

from fineclip.experiments import engine, job


class InProcess:
    """Stands in for a process that runs a job; it has ended when it has started."""

    def __init__(self, command, *, stdout, **options):
        with redirect_stdout(stdout):
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
