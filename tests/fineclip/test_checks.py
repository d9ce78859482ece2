import math

import pytest

from fineclip import checks
from fineclip.command_line import check_out_file


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (checks.integer_from(1), [1, 2**31 - 1], [0, -1, 1.0, True, "1", None, 2**31, 10**400]),
        (checks.integer_from(0, 3), [0, 3], [4, -1]),
        (checks.real(0), [0, 0.5, 7], [-0.1, math.nan, math.inf, "1", True, [1], 10**400]),
        (checks.real(0, above=True), [1e-9], [0, 0.0]),
        (checks.real(0, 1), [0, 1], [1.1]),
        (checks.one_of("pil", None, 1), ["pil", None, 1], ["PIL", True, 1.0, []]),
        (checks.list_of(checks.TEXT, 2), [["a", "b"], ("a", "b")], ["ab", ["a"], ["a", 1]]),
        (checks.table(checks.integer_from(1)), [{}, {"a": 1}], [{"a": 0}, {1: 1}, [1], None]),
        (checks.either(checks.NOTHING, checks.FLAG), [None, True], [0, "True"]),
        (checks.TEXT, ["a"], ["", "  ", 3, "a\0b"]),
        (checks.ANY_TEXT, [""], [3]),
    ],
)
def test_what_is_accepted(check, accepted, refused):
    assert [value for value in accepted if not check.accepts(value)] == []
    assert [value for value in refused if check.accepts(value)] == []


def test_messages():
    with pytest.raises(
        ValueError, match=r"^f\.json: n: expected an integer from 1 on, got 'a+\.\.\.a+'$"
    ):
        checks.integer_from(1).require("a" * 1000, "f.json: n")
    with pytest.raises(ValueError, match=r"a list of 2, each a number from 0 to 1, got \[1\]"):
        checks.list_of(checks.real(0, 1), 2).require([1], "betas")
    assert checks.nearest("batch_sise", ["batch_size", "lr"]) == "did you mean batch_size?"
    assert checks.nearest("x", ["lr", "a"]) == "known: a, lr"
    assert checks.nearest("x", [f"key{i}" for i in range(20)]).endswith(", and 8 more")


def test_entries():
    wanted = {"id": checks.integer_from(0), "name": checks.TEXT}
    checks.check_entries({"id": 1, "more": 2}, wanted, "f", optional=["name"])
    for data, message in (
        ([], r"f: expected a JSON object, got \[\]"),
        ({"id": 1}, "f: missing key 'name'"),
        ({"id": "1", "name": "a"}, "f: key 'id': expected an integer from 0 on, got '1'"),
        ({"id": 1, "name": None}, "key 'name'"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.check_entries(data, wanted, "f")


def test_a_file_that_may_not_be_written_is_told_first(tmp_path, monkeypatch):
    check_out_file(tmp_path / "out.json")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may everything
    with pytest.raises(PermissionError, match=f"--out: folder {tmp_path} may not be written to"):
        check_out_file(tmp_path / "out.json")
