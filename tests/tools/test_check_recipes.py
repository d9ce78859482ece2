"""tools/check_recipes.py as a user runs it."""

import json


def test_prints_a_row_per_difference(run_tool, tmp_path):
    (tmp_path / "a.py").write_text("lr = 1e-3\n")
    recipe = {"source": "somewhere", "configs": {"a.py": {"lr": 0.5}}, "settings": {"lr": 1e-3}}
    for reasons, code, why in ({}, 1, "NOT EXPLAINED"), ({"lr": "faster"}, 0, "faster"):
        table = {"recipes": {"A": {**recipe, "reasons": reasons}}, "others": {}}
        (tmp_path / "published.json").write_text(json.dumps(table))
        done = run_tool("check_recipes.py", "--configs", tmp_path)
        assert done.returncode == code
        assert f"| a.py | lr | 0.001 | 0.5 | {why} |" in done.stdout
        assert f"1 differences, {code} of them not explained" in done.stdout


def test_a_missing_table_is_one_line(run_tool, tmp_path):
    done = run_tool("check_recipes.py", "--configs", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "published.json" in line
