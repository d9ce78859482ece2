"""One training of :mod:`fineclip.experiments.downstream`, in a process of its own.

``python -m fineclip.experiments.downstream_job FOLDER`` reads ``FOLDER/job.json``, calls what it
names and writes ``FOLDER/result.json``.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from pathlib import Path

from fineclip.files import write_atomically

JOB, RESULT = "job.json", "result.json"


def main(argv: list[str]) -> int:
    """Runs the job of the folder ``argv[0]``."""
    logging.getLogger().setLevel(logging.ERROR)
    folder = Path(argv[0])
    job = json.loads((folder / JOB).read_text())
    module, _, function = job["function"].partition(":")
    try:
        metrics = getattr(import_module(module), function)(folder, **job["arguments"])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    write_atomically(folder / RESULT, json.dumps(metrics, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
