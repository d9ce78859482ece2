"""One call in a process of its own: ``python -m fineclip.experiments.call FUNCTION ARGUMENTS``.

FUNCTION is ``package.module:function``, ARGUMENTS are its keyword arguments as JSON. The last line
of standard output is what it returns, as JSON; where it fails, that of standard error is why.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module


def call_named(argv: list[str]) -> int:
    """Calls the function ``argv[0]``."""
    module, _, name = argv[0].partition(":")
    try:
        result = getattr(import_module(module), name)(**json.loads(argv[1]))
    except Exception as error:
        # One line: CUDA says that memory ran out in several.
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)  # open_clip announces every tiny model at length
    if code := call_named(sys.argv[1:]):
        sys.exit(code)
