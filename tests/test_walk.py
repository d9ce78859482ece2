"""docs/walk.md names files and functions; they exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "docs" / "walk.md").read_text(encoding="utf-8").split())
NAMED = sorted(set(re.findall(r"`([\w/]+\.py): ([\w.]+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_the_walk_names_exists(file, name):
    names = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in names if getattr(node, "name", None) == part]
        assert len(found) == 1, f"{file} has no {part} of {name}"
        names = getattr(found[0], "body", [])


def test_the_walk_has_a_name_for_every_hop():
    hops = re.findall(r"\d+\. \*\*.*?(?= \d+\. \*\*|$)", TEXT)
    assert len(hops) == 10
    assert [hop[:30] for hop in hops if not re.search(r"`[\w/]+\.py: [\w.]+`", hop)] == []
