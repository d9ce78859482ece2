"""A work dir is one run's, and its pointer leads to a checkpoint or is an error."""

import subprocess
import sys

import pytest

from fineclip.work_dir import WorkDirError, claim, clear, last_checkpoint, point_to


def test_the_pointer_leads_to_a_checkpoint_wherever_the_folder_is(tmp_path):
    assert last_checkpoint(tmp_path / "nothing") is None
    old = tmp_path / "old"
    old.mkdir()
    assert last_checkpoint(old) is None
    (old / "epoch_2.pth").touch()
    assert last_checkpoint(old) == old / "epoch_2.pth"  # killed before the pointer was written
    (old / "epoch_3.pth").touch()
    point_to(old / "epoch_2.pth")
    assert last_checkpoint(old) == old / "epoch_2.pth"
    (old / "last_checkpoint").write_text(f"{old}/epoch_3.pth\n")
    moved = old.rename(tmp_path / "moved")
    assert last_checkpoint(moved) == moved / "epoch_3.pth"


@pytest.mark.parametrize(("content", "message"), [(" \n", "is empty"), ("x.pth", "names x.pth")])
def test_a_pointer_that_leads_nowhere_is_an_error(tmp_path, content, message):
    (tmp_path / "last_checkpoint").write_text(content)
    (tmp_path / "iter_7.pth").touch()
    with pytest.raises(WorkDirError, match=f"{message}.*there are: iter_7.pth"):
        last_checkpoint(tmp_path)


def test_a_used_folder_is_refused_with_the_ways_on(tmp_path):
    claim(tmp_path / "new")
    (tmp_path / "new/notes.txt").touch()
    claim(tmp_path / "new")
    (tmp_path / "new/model_final.pth").touch()
    with pytest.raises(WorkDirError, match=r"model_final\.pth.*--resume.*--overwrite"):
        claim(tmp_path / "new")
    claim(tmp_path / "new", resume=True)
    claim(tmp_path / "new", overwrite=True)
    (tmp_path / "new/20260101_000000").mkdir()
    (tmp_path / "new/20260101_000001").mkdir()
    (tmp_path / "new/epoch_1.pth").touch()
    clear(tmp_path / "new", keep=[tmp_path / "new/20260101_000001", f"{tmp_path}/new/epoch_1.pth"])
    left = {file.name for file in (tmp_path / "new").iterdir()}
    assert left == {".lock", "notes.txt", "20260101_000001", "epoch_1.pth"}


def test_two_runs_in_one_folder_are_refused_and_a_killed_one_is_not_in_the_way(tmp_path):
    hold = (
        "import os, sys, time; from fineclip.work_dir import claim\n"
        f"claim('{tmp_path}'); open('{tmp_path}/.epoch_1.pth.host@1.tmp', 'w')\n"
        "if os.fork() == 0: time.sleep(60)\n"  # as a worker, which does not hold it
        "print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(WorkDirError, match=f"in use by another run .process {child.pid} on"):
        claim(tmp_path, resume=True)
    child.kill()
    child.wait()
    claim(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
