"""Means, deviations, tables and figures."""

import json

import pytest

from fineclip.experiments.results import (
    METRICS,
    ablation_table,
    cell,
    markdown_table,
    plot_losses,
    summarize,
    summarize_row,
    write_ablation,
)


def result(value=10.0, **changes):
    return {
        "metrics": dict.fromkeys(METRICS, value),
        "seconds_per_epoch": 2.0,
        "peak_memory_bytes": 3_000_000,
        **changes,
    }


def test_mean_and_sample_deviation():
    found = summarize([{"a": 10.0, "b": 1.0}, {"a": 20.0, "b": None}], ["a", "b", "c"])
    assert found["a"] == {"mean": 15.0, "std": pytest.approx(50**0.5)}
    assert found["b"] == {"mean": 1.0, "std": None}
    assert found["c"] == {"mean": None, "std": None}


def test_table():
    found = summarize([{"a": 10.0}, {"a": 20.0}], ["a", "b"])
    cells = [cell(found["a"]), cell(found["a"], scale=0.1, digits=0), cell(found["b"])]
    assert markdown_table(["name", "A", "kA", "B"], [["x", *cells]]).splitlines() == [
        "| name | A | kA | B |",
        "|---|---|---|---|",
        "| x | 15.0 ± 7.1 | 2 ± 1 | - |",
    ]
    assert cell(summarize([{"a": 10.0}], ["a"])["a"]) == "10.0"


def test_row_of_an_ablation():
    row = summarize_row("r", {0: result(10.0), 4: result(20.0, seconds_per_epoch=4.0)})
    assert row["box_top1"] == {"mean": 15.0, "std": pytest.approx(50**0.5)}
    assert row["seconds_per_epoch"] == {"mean": 3.0, "std": pytest.approx(2**0.5)}
    assert row["peak_memory_bytes"] == {"mean": 3e6, "std": 0.0}
    assert (row["name"], row["seeds"]) == ("r", [0, 4])
    single = summarize_row("r", {0: result(10.0)}, with_cost=False)
    assert single["t2i_r1"] == {"mean": 10.0, "std": None}
    assert single["seconds_per_epoch"] == single["peak_memory_bytes"] == {"mean": None, "std": None}


def test_results_are_written_as_json_markdown_and_figure(tmp_path):
    rows = [
        summarize_row("pretrained", {0: result(1.0)}, with_cost=False),
        summarize_row("CLIP", {0: result(10.0), 1: result(20.0)}),
    ]
    write_ablation(tmp_path, rows)
    assert json.loads((tmp_path / "results.json").read_text()) == {"rows": rows}
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines == ablation_table(rows).splitlines()
    assert lines[2] == "| pretrained | 1.0 | 1.0 | 1.0 | 1.0 | - | - | 0 |"
    assert lines[3].startswith("| CLIP | 15.0 ± 7.1 |")
    assert lines[3].endswith("| 2.0 ± 0.0 | 3 ± 0 | 0 1 |")
    assert len({line.count("|") for line in lines}) == 1
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        f"results.{x}" for x in ("json", "md", "png")
    ]
    write_ablation(tmp_path, [])
    assert json.loads((tmp_path / "results.json").read_text()) == {"rows": []}


def test_losses_are_drawn(tmp_path):
    log = tmp_path / "run" / "2026" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps({"step": s, "loss_a": 1 / s}) + "\n" for s in (1, 2)))
    plot_losses(
        {"run": tmp_path / "run", "none": tmp_path}, {"loss_a": "A", "b": "B"}, tmp_path / "p.png"
    )
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.png", "run"]


def test_columns_are_those_that_the_config_names(tmp_path):
    metrics = {"flickr30k/i2t_r1": "Flickr I2T", "retrieval/i2t_r1": "COCO I2T"}
    found = {0: result(metrics=dict.fromkeys(metrics, 7.0))}
    rows = [summarize_row("r", found, metrics=metrics)]
    write_ablation(tmp_path, rows, metrics)
    assert (tmp_path / "results.md").read_text().splitlines()[::2] == [
        "| row | Flickr I2T | COCO I2T | s / epoch | peak MB | seeds |",
        "| r | 7.0 | 7.0 | 2.0 | 3 | 0 |",
    ]
    assert (tmp_path / "results.png").stat().st_size > 1000
