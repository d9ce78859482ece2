"""The house: rooms on floors, who may import whom, one of everything, and calls nobody may make."""

import ast
import copy
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import (
    House,
    circles,
    imports_not_downwards,
    logic_in_tools,
    names_defined_twice,
    names_that_start_with,
    not_on_the_map,
    unexplained_late_imports,
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fineclip", "detection", "segmentation")

FLOORS = (
    {
        "fineclip.import_hook": "a call as soon as a library is imported",
        "fineclip.paths": "file names that stay in their folder, and off pipes and devices",
    },
    {
        "fineclip": "the name alone",
        "fineclip.checks": "what a plain value must be, said once",
        "fineclip.class_sampling": "which classes a loss looks at",
        "fineclip.devices": "what to compute on",
        "fineclip.embeddings": "what objectives read, and what each field is made of",
        "fineclip.files": "writing files that are whole or absent, reading JSON",
        "fineclip.images": "reading image files, and counting those that cannot be used",
        "fineclip.interrupts": "how commands end when they are told to",
        "fineclip.positions": "resampling of position tables",
        "fineclip.progress": "what a command is about to do, and how far it is",
        "fineclip.quiet": "what libraries say of every healthy run",
        "fineclip.registry": "names in configs",
        "fineclip.tiny_models": "models that train in minutes",
    },
    {
        "fineclip.run_record": "what ran in a work dir, and on what",
        "fineclip.scenes": "the synthetic world",
        "fineclip.work_dir": "the folder of a training",
    },
    {"fineclip.weights": "what is meant by weights: a file, a tag, a work dir"},
    {
        "fineclip.annotations": "files of boxes and captions, mended or refused",
        "fineclip.checkpoints": "formats of weights",
        "fineclip.configuration": "configs, read and checked without torch",
        "fineclip.objectives": "embeddings -> losses",
        "fineclip.parallel": "gathering over processes, encoding in chunks",
        "fineclip.text": "prompts, vocabularies, tokenizers",
        "fineclip.visualization": "pictures of results",
    },
    {
        "fineclip.datasets": "files -> batches",
        "fineclip.engine": "mmengine's runner, hooks, optimizers",
        "fineclip.models": "the model, and class embeddings made with it",
    },
    {
        "fineclip.command_line": "what tools have in common",
        "fineclip.evaluation": "metrics, loops, tasks",
        "fineclip.explain": "relevance of patches, tokens and words",
        "fineclip.importing": "data of other programs -> the one layout",
    },
    {
        "fineclip.annotation": "captioned images -> region-text data",
        "fineclip.looking": "a photograph asked about words",
        "fineclip.pretraining": "batch -> embeddings -> losses, and the teachers",
    },
    {
        "fineclip.demo": "a web page that asks models about photographs",
        "fineclip.experiments": "tables of trainings, benchmarks",
    },
    {"fineclip.reporting": "work dirs -> one HTML page"},
    {
        "detection": "F-ViT on mmdet",
        "segmentation": "CAT-Seg, plain and on detectron2",
    },
    {"tools": "arguments in, a call, results out"},
)
"""Rooms by floor, from the ground up. A room imports from the floors below it alone."""

LONGEST_FUNCTION_OF_A_TOOL = 25
LONGEST_MAIN = 60

SAME_NAME = {
    "evaluate": "mmengine's evaluators and detectron2's",
    "layout_of_rest": "one per format of detectors' and segmenters' checkpoints",
    "load_config": "mmengine's Python files and detectron2's YAML",
    "parameter_groups": "of pretraining and of CAT-Seg, whose rules differ",
}
"""Names that may be defined twice, each with the reason."""

INTERFACES = {"fineclip.engine.sharding: test_step", "detection.models.detector: test_step"}
"""Names that another library asks for."""

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


@pytest.fixture(scope="module")
def house():
    return House(ROOT, [*PACKAGES, "tools"])


@pytest.fixture(scope="module")
def packages(house):
    """What they define, without tools."""
    found = copy.copy(house)
    found.trees = {n: tree for n, tree in house.trees.items() if n.split(".")[0] in PACKAGES}
    return found


def test_every_module_is_on_the_map(house):
    assert not_on_the_map(house, FLOORS) == []


def test_every_room_of_the_map_exists(house):
    assert [room for floor in FLOORS for room in floor if room not in {*house.files, "tools"}] == []


def test_rooms_import_downwards_only(house):
    assert imports_not_downwards(house, FLOORS) == []


def test_no_circles(house):
    assert circles(house) == []


def test_late_imports_give_a_reason(house):
    """Of our own packages, in a function: only to spare a heavy optional library."""
    assert unexplained_late_imports(house) == []


def test_no_tool_has_logic_worth_testing(house):
    found = logic_in_tools(house, "tools", LONGEST_FUNCTION_OF_A_TOOL, LONGEST_MAIN)
    # Slow twins to measure against are tested, and are no part of what users install.
    found = [name for name in found if not name.startswith("tools.yardsticks.")]
    assert found == []


def test_one_name_is_one_thing(packages):
    twice = names_defined_twice(packages).keys()
    assert twice - SAME_NAME.keys() == set()
    assert twice >= SAME_NAME.keys(), "no longer there twice: take it out of SAME_NAME"


def test_names_are_the_fields_own(packages):
    """What starts with test_ is a test; what is folded into one thing is fused."""
    found = names_that_start_with(packages, "test_", "merge_")
    assert found == INTERFACES


@pytest.fixture
def made_up(tmp_path):
    """Builds a house of two floors from texts by file name."""

    def build(texts=()):
        files = {
            "low/__init__.py": "",
            "low/stone.py": "def lay(): ...",
            "high/__init__.py": "",
            "high/roof.py": "from low.stone import lay\nfrom high import tiles",
            "high/tiles.py": "import low.stone",
            "tools/build.py": "from high.roof import lay\ndef main(): ...",
            **dict(texts),
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return House(tmp_path, ["low", "high", "tools"])

    return build


TWO_FLOORS = ({"low": ""}, {"high.roof": "", "high.tiles": "", "high": ""}, {"tools": ""})


def test_a_house_in_order(made_up):
    house, floors = made_up(), ({"low": ""}, {"high": ""}, {"tools": ""})
    assert not_on_the_map(house, floors) == imports_not_downwards(house, floors) == []
    assert circles(house) == unexplained_late_imports(house) == []
    assert logic_in_tools(house, "tools", 3, 3) == []
    assert names_defined_twice(house) == {}


@pytest.mark.parametrize(
    "text",
    [
        "import high.roof",
        "from high import roof",
        "from high.roof import lay",
        "def f():\n    from high import roof  # heavy",
        "if TYPE_CHECKING:\n    from high import roof",
    ],
)
def test_an_import_upwards_is_seen(made_up, text):
    house = made_up({"low/stone.py": text})
    (found,) = imports_not_downwards(house, ({"low": ""}, {"high": ""}, {"tools": ""}))
    assert found.startswith("low.stone:")
    assert "(floor 0) imports high.roof (floor 1)" in found


def test_an_import_on_the_same_floor_is_seen(made_up):
    found = imports_not_downwards(made_up(), TWO_FLOORS)
    assert found == ["high.roof:2 (floor 1) imports high.tiles (floor 1)"]


def test_a_room_that_is_not_on_the_map_is_seen(made_up):
    house = made_up({"high/cellar.py": ""})
    assert not_on_the_map(house, TWO_FLOORS) == ["high.cellar"]


def test_a_circle_is_seen(made_up):
    assert circles(made_up({"high/tiles.py": "from . import roof"})) == ["high.roof, high.tiles"]
    through_three = made_up(
        {
            "high/tiles.py": "from high.beams import carry",
            "high/beams.py": "try:\n    import high.roof\nexcept: ...",
        }
    )
    assert circles(through_three) == ["high.beams, high.roof, high.tiles"]
    # A module that asks its own package for a sibling's name loads itself.
    own_package = made_up(
        {"high/__init__.py": "from high.beams import x", "high/beams.py": "from high import y"}
    )
    assert "high, high.beams" in circles(own_package)


def test_what_is_loaded_late_or_never_makes_no_circle(made_up):
    late = "def f():\n    import high.roof  # spares a heavy library"
    assert circles(made_up({"high/tiles.py": late})) == []
    assert circles(made_up({"high/tiles.py": "if TYPE_CHECKING:\n    import high.roof"})) == []


@pytest.mark.parametrize(
    ("comment", "count"),
    [("", 1), ("  # noqa: F401", 1), ("  # noqa: F401 (registers)", 0), ("  # spares mmdet", 0)],
)
def test_a_late_import_without_reason_is_seen(made_up, comment, count):
    house = made_up({"high/tiles.py": f"def f():\n    import torch\n    import low.stone{comment}"})
    assert unexplained_late_imports(house) == ["high.tiles: low.stone"] * count


def test_logic_in_a_tool_is_seen(made_up):
    long = "\n".join(["    pass"] * 3)
    text = "".join(f"def {name}():\n{long}\n" for name in ("parse_args", "run", "main"))
    house = made_up({"tools/build.py": f"class A: ...\n{text}"})
    assert logic_in_tools(house, "tools", 3, 4) == ["tools.build: class A", "tools.build: run"]


def test_names_are_seen(made_up):
    house = made_up({"high/tiles.py": "class Tile:\n    def merge_all(self): ...\ndef lay(): ..."})
    assert names_defined_twice(house) == {"lay": ["low.stone", "high.tiles"]}
    assert names_that_start_with(house, "merge_") == {"high.tiles: merge_all"}


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


@pytest.fixture(scope="module")
def bare():
    """What imports do in a process where nothing is loaded and no framework is installed."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in python_files("fineclip")
    ]
    assert "fineclip" in modules
    # None in sys.modules makes `import NAME` raise ImportError, as if it were not installed.
    program = textwrap.dedent(
        f"""
        import importlib, json, sys
        for name in {OPTIONAL!r}:
            sys.modules[name] = None
        import fineclip.models
        rooms = ("objectives", "parallel", "pretraining", "engine", "datasets")
        loaded = [room for room in rooms if f"fineclip.{{room}}" in sys.modules]
        failed = []
        for name in {modules!r}:
            try:
                importlib.import_module(name)
            except ImportError as error:
                failed.append(f"{{name}}: {{error}}")
        del sys.modules["detection"], sys.modules["segmentation"]
        import detection, segmentation.modeling
        registered = [hasattr(detection, "models"), hasattr(segmentation, "CATSeg")]
        print(json.dumps(dict(loaded=loaded, failed=failed, registered=registered)))
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_model_loads_no_training(bare):
    assert bare["loaded"] == []


def test_fineclip_imports_where_the_frameworks_are_absent(bare):
    assert bare["failed"] == []


def test_detectors_and_segmenters_import_without_their_frameworks(bare):
    """CAT-Seg's network is plain torch; nothing is registered."""
    assert bare["registered"] == [False, False]
