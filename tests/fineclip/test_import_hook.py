import sys

import pytest

from fineclip.import_hook import call_when_imported

CALLED = []


def note(module):
    CALLED.append((module.__name__, module.VALUE))


@pytest.fixture
def library(tmp_path, monkeypatch):
    (tmp_path / "a_library.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys.modules[__name__], "CALLED", [])
    yield "a_library"
    sys.modules.pop("a_library", None)


@pytest.mark.parametrize("first", [True, False])
def test_a_module_is_seen_whenever_it_is_imported(library, first):
    if first:
        __import__(library)
    call_when_imported([library, "no_such_library"], f"{__name__}:note")
    assert first == bool(CALLED)
    __import__(library)
    assert [(library, 1)] == CALLED


def test_what_it_raises_fails_the_import(library):
    call_when_imported([library], f"{__name__}:no_such_function")
    with pytest.raises(AttributeError, match="no_such_function"):
        __import__(library)
    assert library not in sys.modules
