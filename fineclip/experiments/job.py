"""One job of :mod:`fineclip.experiments.engine`, so that its time and its memory are its own.

``python -m fineclip.experiments.job FOLDER`` reads ``FOLDER/job.json``, calls the function that it
names and writes ``FOLDER/result.json``. Where that fails, standard output, which is the job's log,
ends with the reason: one line ``error: ...`` and exit code 2 for bad input, else a traceback.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

from fineclip.experiments.engine import JOB, RESULT
from fineclip.experiments.measuring import peak_memory_bytes
from fineclip.files import write_atomically
from fineclip.quiet import mute_noise


def main(argv: list[str]) -> int:
    """Runs the job of the folder ``argv[0]``."""
    folder = Path(argv[0])
    job = json.loads((folder / JOB).read_text())
    module, _, name = job["function"].partition(":")
    try:
        function = getattr(import_module(module), name)
        start = time.monotonic()
        outcome = function(folder, **job["arguments"])
    except (ValueError, OSError) as error:
        print(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:
        # Not left to the interpreter: standard error may be a terminal with progress bars.
        traceback.print_exc(file=sys.stdout)
        return 1
    result = {
        "peak_memory_bytes": peak_memory_bytes(),
        **outcome,
        "seconds": time.monotonic() - start,
        "fingerprint": job["fingerprint"],
    }
    write_atomically(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    mute_noise()
    logging.getLogger().setLevel(logging.ERROR)  # open_clip announces every tiny model at length
    sys.exit(main(sys.argv[1:]))
