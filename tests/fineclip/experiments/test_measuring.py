import pytest

from fineclip.experiments.measuring import call_in_process


def test_a_module_answers_from_a_process_of_its_own(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"seconds": 1.5}')
    found = call_in_process("json.tool", "mode plain", "--compact", str(file))
    assert found == {"seconds": 1.5}


def test_the_last_line_of_a_failed_process_is_the_reason():
    with pytest.raises(RuntimeError, match=r"^mode plain: .*nothing\.json"):
        call_in_process("json.tool", "mode plain", "nothing.json")
    with pytest.raises(RuntimeError, match=r"^mode lean: .*no_such_module"):
        call_in_process("no_such_module", "mode lean")
