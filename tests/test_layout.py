"""The layout's promises: light imports, one copy of every class, one door for heavy packages."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "export", "calib", "plugins", "runtime")
HEAVY = ("torch", "torchvision", "onnxruntime", "tensorrt_rtx", "pycocotools", "skimage", "cv2")
SOURCES = sorted(p for f in (*FOLDERS, "maskrt") for p in (ROOT / f).rglob("*.py"))


def test_no_bare_import_of_a_top_level_folder() -> None:
    """`import core` would make a second copy of every class in it."""
    found = []
    for path in (*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found += [f"{path}: {n}" for n in names if n.partition(".")[0] in FOLDERS]
    assert found == []


def test_importing_maskrt_imports_nothing_heavy() -> None:
    code = (
        "import sys, maskrt, maskrt.cli, maskrt.runtime, maskrt.calib, maskrt.plugins, "
        "maskrt.export, maskrt.demo\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_export_references_and_the_torch_adapter_import_torch(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "export" or path.name in (
        "reference.py",
        "torch_cuda.py",
    ):
        return
    assert not _imports(ast.parse(path.read_text(encoding="utf-8"))) & {"torch", "torchvision"}


def _imports(tree: ast.AST) -> set[str]:
    """Top-level packages imported anywhere in `tree`, for type checkers alone not counted."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            found |= _imports(node)
    return found


def test_the_house_in_the_docs_is_the_one_that_is_enforced() -> None:
    """Floor by floor, from the roof down."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and later
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    enforced = [sorted(floor.split(" | ")) for floor in layers]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- house -->")[2].partition("<!-- end of house -->")[0]
    rooms = [line.split("|")[2] for line in table.splitlines()[3:] if line.strip()]
    shown = [
        sorted(Path(place).stem for place in re.findall(r"`(?:maskrt/)?([\w.]+)`", room))
        for room in rooms
    ]
    assert shown == enforced


def test_every_folder_of_the_house_says_what_enters_what_leaves_and_who_may_import_it() -> None:
    rooms = [path.parent for path in (ROOT / "maskrt").glob("*/__init__.py")]
    for room in (*rooms, *(ROOT / folder for folder in FOLDERS)):
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
        for word in ("In: ", "Out: ", "Imported by "):
            assert word in (said or ""), f"{room}/__init__.py: {word}"


def test_no_module_is_named_by_a_gerund() -> None:
    assert [path for path in SOURCES if path.stem.endswith("ing")] == []


def test_every_verb_has_help() -> None:
    from maskrt.cli.verbs import _VERBS

    for verb in _VERBS:
        result = subprocess.run(
            [sys.executable, "-m", "maskrt", verb, "-h"], capture_output=True, text=True, cwd="/"
        )
        assert result.returncode == 0, verb
        assert "Usage: maskrt" in result.stdout


def test_every_operator_folder_has_every_body() -> None:
    for folder in (ROOT / "plugins").iterdir():
        if (folder / "schema.py").is_file():
            present = {p.name for p in folder.glob("*.py")}
            assert {"schema.py", "reference.py", "function.py", "pluginless.py"} <= present


def test_what_is_missing_is_named_with_its_install_command() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import maskrt\n"
        "maskrt.compile('torchvision:maskrcnn_resnet50_fpn', 'never.maskrt')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert "MissingDependencyError" in result.stderr
    assert "pip install 'maskrt[export]'" in result.stderr
    assert not Path("/never.maskrt").exists()
