"""The choice between float32 and bf16."""

import json

import pytest

from fineclip.experiments import precision
from fineclip.experiments.precision import faster_precision, measure_precisions


@pytest.mark.parametrize(
    ("bf16", "chosen"), [(0.5, "bf16"), (0.89, "bf16"), (0.95, None), (1.4, None)]
)
def test_bf16_has_to_pay(tmp_path, monkeypatch, bf16, chosen):
    monkeypatch.setattr(precision, "measure_precisions", lambda: {"float32": 1.0, "bf16": bf16})
    assert faster_precision(tmp_path / "new" / "precision.json") == chosen


@pytest.mark.parametrize("kept", ["bf16", None])
def test_what_a_run_began_with_is_kept(tmp_path, monkeypatch, kept):
    file = tmp_path / "precision.json"
    seconds = {"float32": 1.0, "bf16": 0.5 if kept else 2.0}
    monkeypatch.setattr(precision, "measure_precisions", lambda: seconds)
    faster_precision(file)
    monkeypatch.setattr(precision, "measure_precisions", lambda: pytest.fail("measured again"))
    assert faster_precision(file) == kept


@pytest.mark.parametrize("content", ["[]", "{}", '{"amp": "fp8"}'])
def test_another_file_is_refused(tmp_path, content):
    file = tmp_path / "precision.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"precision\.json should say .* delete it"):
        faster_precision(file)


def test_both_are_measured_in_their_format(monkeypatch):
    seen = []
    original = precision.autocast
    monkeypatch.setattr(
        precision, "autocast", lambda device, amp: seen.append(amp) or original(device, amp)
    )
    monkeypatch.setattr(precision, "_ROUNDS", 2)
    seconds = measure_precisions()
    assert seen == [None, "bf16"] * 2
    assert json.loads(json.dumps(seconds)).keys() == {"float32", "bf16"}
    assert all(0 < value < float("inf") for value in seconds.values())
