"""The commands that make open-vocabulary annotation files: exit codes and what they print."""

import json

import pytest

pytest.importorskip("mmdet")

from fineclip.text import load_vocabulary


def test_ov_coco(run_tool, tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
        ],
        "categories": [{"id": c.id, "name": c.name} for c in load_vocabulary("coco").categories],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(data))
    done = run_tool("prepare_ov_coco.py", tmp_path, tmp_path / "out", "--splits", "val")
    assert done.returncode == 0, done.stderr
    assert "instances_val2017_ov.json: 1 images, 1 annotations" in done.stdout
    assert len(json.loads((tmp_path / "out/instances_val2017_ov.json").read_text())["images"]) == 1


@pytest.mark.parametrize("tool", ["prepare_ov_coco.py", "prepare_ov_lvis.py"])
def test_missing_files(run_tool, tmp_path, tool):
    done = run_tool(tool, tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "does not exist" in done.stderr
    assert not (tmp_path / "out").exists()
