"""What ran in a work dir is recorded as far as it went, and where it goes on it is added to."""

import json
from pathlib import Path

import fineclip
from fineclip.run_record import RECORD, RunRecord, command_line, read_record, toolkit

ROOT = Path(fineclip.__file__).parents[1]


def begin(folder, seed=3):
    return RunRecord(folder, config="scenes", device="cpu (1 threads)", seed=seed)


def test_each_call_has_a_part(tmp_path):
    begin(tmp_path).write(4)
    (part,) = read_record(tmp_path)
    assert (part["step"], part["finished"], part["seed"]) == (4, False, 3)
    later = begin(tmp_path)
    later.write(4)
    later.write(9, finished=True)
    first, last = read_record(tmp_path)
    assert first == part
    assert (last["step"], last["finished"]) == (9, True)
    assert last["machine"].keys() == {"device", "cores", "system", "python", "torch"}
    assert all(last["machine"].values()) and last["seconds"] >= 0
    assert [file.name for file in tmp_path.iterdir()] == [RECORD]


def test_what_is_no_record_is_none(tmp_path):
    for content in ("", "{", "[]", json.dumps({"format": "fineclip-run", "parts": 3})):
        (tmp_path / RECORD).write_text(content)
        assert read_record(tmp_path) == []
    assert read_record(tmp_path / "nowhere") == []


def test_the_command_is_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = str(ROOT / "tools" / "train.py")
    typed = [script, "a config.py", f"{tmp_path}/d"]
    assert command_line(typed) == f"python tools/train.py 'a config.py' {tmp_path}/d"
    assert command_line(["/x/job.py", f"{tmp_path}/runs/a"], "a.job") == "python -m a.job runs/a"


def test_no_other_repository_s_commit(tmp_path, monkeypatch):
    found = toolkit()
    assert found["version"] == fineclip.__version__
    assert found["commit"] is None or len(found["commit"]) == 40
    monkeypatch.setattr("fineclip.run_record._ROOT", ROOT / "fineclip")
    assert toolkit()["commit"] is None
