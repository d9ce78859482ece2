"""Calling a function on a library's module as soon as that module is imported, however late.

Importing ``fineclip`` makes the checkpoint readers of other libraries safe, and loads none of
them: most programs that import it need none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def call_when_imported(modules: Sequence[str], function: str) -> None:
    """Has a function called with each of some modules, once: now, or right after its import.

    Args:
        modules: Full names of the modules.
        function: ``module:name``, imported when it is called. What it raises makes the import of
            the library fail.
    """
    waiting = {name for name in modules if name not in sys.modules}
    if waiting:
        sys.meta_path.insert(0, _Finder(waiting, function))
    for name in modules:
        if name not in waiting:
            _call(function, sys.modules[name])


def _call(function: str, module: ModuleType) -> None:
    home, _, name = function.partition(":")
    getattr(import_module(home), name)(module)


class _Finder(MetaPathFinder):
    """Finds what the other finders do, and adds the call to what loads it."""

    def __init__(self, waiting: set[str], function: str) -> None:
        self._waiting = waiting
        self._function = function

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        others: list[Any] = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run: Any = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _call(self._function, module)

        spec.loader.exec_module = exec_module
        return spec
