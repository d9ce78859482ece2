"""Configs and the published settings they stand for."""

import json
from pathlib import Path

import pytest

from fineclip.experiments.recipes import compare_recipes

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def small(tmp_path):
    """A Python config with a base, a YAML with one, and a table that fits both."""
    files = {
        "_base_/all.py": "lr = 1e-3\noptim = dict(lr=lr, betas=(0.9, 0.99))\n",
        "a.py": "_base_ = '_base_/all.py'\n"
        "hooks = [dict(type='One'), dict(type='Two', alpha=0.5)]\n",
        "_base_/all.yaml": "SOLVER: {LR: 0.1, STEPS: 5}\nINPUT:\n  SIZE: (4, 4)\n",
        "b.yaml": "_BASE_: _base_/all.yaml\nSOLVER: {LR: 0.2}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def write(recipes, others=None):
        content = {"recipes": recipes, "others": others or {}}
        (tmp_path / "published.json").write_text(json.dumps(content))
        return tmp_path

    return write


PYTHON = {
    "source": "somewhere",
    "configs": {"a.py": {}},
    "settings": {
        "optim.lr": 1e-3,
        "optim.betas": [0.9, 0.99],
        "hooks.Two.alpha": 0.5,
        "hooks.0.type": "One",
        "hooks.Three.alpha": None,
    },
}
YAML = {
    "source": "elsewhere",
    "configs": {"b.yaml": {}},
    "settings": {"SOLVER.LR": 0.2, "SOLVER.STEPS": 5, "INPUT.SIZE": [4, 4]},
}


def test_no_difference_is_left_unexplained():
    """Of what is shipped; detectors need mmdet only to run."""
    differences, flaws = compare_recipes(CONFIGS)
    assert flaws == []
    assert [d for d in differences if not d.reason] == []
    assert ("fineclip/coco_eva02-b-16.py", "optim_wrapper.dtype") in {
        (d.config, d.key) for d in differences
    }


def test_what_is_as_published_gives_no_rows(small):
    assert compare_recipes(small({"A": PYTHON, "B": YAML})) == ([], [])


def test_every_difference_is_found_with_its_reason(small):
    changed = {
        **PYTHON,
        "configs": {"a.py": {"lr": 0.5}},
        "settings": {**PYTHON["settings"], "hooks.Two.alpha": 0.7},
        "reasons": {"optim.lr": "faster"},
    }
    base = {**YAML, "configs": {}}
    derived = {"source": "there", "like": "B", "configs": {"b.yaml": {}}}
    derived["settings"] = {"SOLVER.LR": 1}
    differences, flaws = compare_recipes(small({"A": changed, "B": base, "C": derived}))
    assert [(d.config, d.key, d.published, d.here, d.reason) for d in differences] == [
        ("a.py", "optim.lr", 1e-3, 0.5, "faster"),
        ("a.py", "hooks.Two.alpha", 0.7, 0.5, ""),
        ("b.yaml", "SOLVER.LR", 1, 0.2, ""),
    ]
    assert flaws == []


def test_flaws_of_the_table_are_named(small):
    stale = {**PYTHON, "reasons": {"optim.lr": "faster"}}
    _, flaws = compare_recipes(small({"A": stale}, {"gone.py": "no recipe"}))
    assert flaws == [
        "A: a reason for optim.lr, which does not differ",
        "b.yaml is in no recipe and not among 'others'",
        "gone.py does not exist",
    ]


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"A": {**PYTHON, "like": "B"}}, "B: there is no such recipe"),
        ({"A": {**PYTHON, "setings": {}}}, "A: .*setings"),
        ({"A": {"source": "x"}}, "A: .*configs"),
    ],
)
def test_a_table_that_cannot_be_read(small, recipes, message):
    with pytest.raises(ValueError, match=message):
        compare_recipes(small(recipes))
