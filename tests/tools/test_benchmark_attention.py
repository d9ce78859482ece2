import json

from fineclip.experiments.attention_benchmark import attention_costs


def test_both_types_and_all_lengths_are_measured(run_tool, tmp_path):
    rows = list(attention_costs([3, 5], rounds=1))
    assert [(row["dtype"], row["tokens"]) for row in rows] == [
        (dtype, tokens) for dtype in ("float32", "bfloat16") for tokens in (3, 5)
    ]
    assert all(row["training"] > 0 and row["inference"] > 0 for row in rows)
    out = tmp_path / "costs.json"
    done = run_tool("benchmark_attention.py", "--tokens", 4, "--rounds", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert [row["tokens"] for row in json.loads(out.read_text())["rows"]] == [4, 4]
    assert run_tool("benchmark_attention.py", "--tokens", 0).returncode == 2
