import json

import torch

from fineclip.models import DenseCLIP


def test_checkpoints_are_compared(run_tool, scenes, tmp_path):
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        torch.save(DenseCLIP.create("ViT-Ti-16").clip.state_dict(), file)
    fixed = ["--model", "ViT-Ti-16", "--data-root", scenes, "--images", 2, "--templates", "photo"]
    out = tmp_path / "found.json"
    options = ["--steps", 2, "--device", "cpu", "--out", out]
    done = run_tool("evaluate_explanations.py", *fixed, *options, "--weights", *files)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["weights"] for row in rows] == list(map(str, files))
    first, second = (row["metrics"] for row in rows)
    assert first["pairs"] == second["pairs"] > 1 and first["chance"] == second["chance"] > 0
    assert first["insertion"] != second["insertion"]
    missing = run_tool("evaluate_explanations.py", *fixed, "--weights", tmp_path / "c.pt")
    assert missing.returncode == 2 and "c.pt does not exist" in missing.stderr
