"""Who may import whom, and a few calls that are not allowed anywhere."""

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "fineclip": {"mmcv", "mmdet", "detectron2", "detection", "segmentation", "tools"},
    "detection": {"detectron2", "segmentation", "tools"},
    "segmentation": {"mmcv", "mmdet", "detection", "tools"},
    "tools": {"tools"},
    "configs": {"tools"},
}
OPTIONAL = ("mmcv", "mmdet", "detectron2", "detection", "segmentation")


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each absolute import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("mmdet") and __import__("mmdet") are imports as well.
            name, first = ast.unparse(node.func).split(".")[-1], node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def broken_imports(source: str, forbidden: set[str]) -> list[str]:
    return [
        f"line {line}: import of {module}"
        for line, module in imported_modules(ast.parse(source))
        if module.split(".")[0] in forbidden
    ]


def forbidden_calls(source: str) -> list[str]:
    """Unsafe loading and hard-coded devices."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        safe = any(
            keyword.arg == "weights_only"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is True
            for keyword in node.keywords
        )
        if function == "torch.load" and not safe:
            found.append(f"line {node.lineno}: torch.load without weights_only=True")
        if function.endswith(".cuda"):
            found.append(f"line {node.lineno}: .cuda() instead of a device from the caller")
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_they_may(package):
    broken = [
        f"{file.relative_to(ROOT)} {problem}"
        for file in python_files(package)
        for problem in broken_imports(file.read_text(encoding="utf-8"), FORBIDDEN[package])
    ]
    assert broken == []


def test_objectives_do_not_import_models():
    broken = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in python_files("fineclip/objectives")
        for line, module in imported_modules(ast.parse(file.read_text(encoding="utf-8")))
        if module.startswith("fineclip.models")
    ]
    assert broken == []


def test_no_unsafe_loading_and_no_hard_coded_device():
    found = [
        f"{file.relative_to(ROOT)} {problem}"
        for file in python_files("fineclip", "detection", "segmentation", "tools")
        for problem in forbidden_calls(file.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import mmdet",
        "import mmdet.apis as a",
        "from mmdet.models import x",
        "def f():\n    from mmdet import x",
        "importlib.import_module('mmdet.models')",
    ],
)
def test_every_way_to_import_is_seen(source):
    assert len(broken_imports(source, {"mmdet"})) == 1


def test_allowed_imports_are_not_reported():
    assert broken_imports("import mmengine\nfrom . import mmdet\nimport mmdetx", {"mmdet"}) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("torch.load(p)", 1),
        ("torch.load(p, weights_only=False)", 1),
        ("torch.load(p, weights_only=True)", 0),
        ("model.cuda()", 1),
        ("torch.cuda.is_available()", 0),
    ],
)
def test_forbidden_calls_are_seen(source, count):
    assert len(forbidden_calls(source)) == count


def test_fineclip_imports_where_the_frameworks_are_absent():
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in python_files("fineclip")
    ]
    assert "fineclip" in modules
    # None in sys.modules makes `import NAME` raise ImportError, as if it were not installed.
    program = textwrap.dedent(
        f"""
        import importlib, sys
        for name in {OPTIONAL!r}:
            sys.modules[name] = None
        for name in {modules!r}:
            importlib.import_module(name)
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
