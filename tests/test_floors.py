"""The floors: who may import whom, and that importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "unisync"
FILES = sorted(PACKAGE.rglob("*.py"))
NO_TORCH = (
    "api",
    "arrays",
    "cli",
    "demo",
    "doctor",
    "errors",
    "face",
    "jobs",
    "media",
    "options",
    "registry",
    "scanning",
    "server",
    "types",
)
MODULES = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for p in FILES]
FORBIDDEN = ("getcwd", "getenv", "is_available", "mkdir", "open", "print", "read_bytes", "read_text", "write_text")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, top: bool = False) -> Iterator[str]:
    """Yield the names of packages imported in a file; top: only those imported when it is."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_contracts() -> None:
    call = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_keeps_to_its_floor(path: Path) -> None:
    if room(path) != "batch":
        assert "ray" not in imported(path), "only batch.py knows Ray"
    if room(path) != "media":
        assert "av" not in imported(path), "only media/ knows FFmpeg"
    if room(path) in NO_TORCH:
        assert "torch" not in imported(path, top=room(path) == "doctor")
    if room(path) in ("types", "errors", "options", "registry"):
        assert set(imported(path)) <= set(sys.stdlib_module_names) | {"numpy", "unisync"}
    assert "mediapipe" not in imported(path), "its files are read, it is never imported"
    if room(path) != "training":
        assert not {"onnx", "onnxruntime"} & set(imported(path)), "a teacher is heard in training alone"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_importing_a_file_does_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        allowed = (ast.Import, ast.ImportFrom, *defined, ast.Assign, ast.AnnAssign, ast.If)
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert isinstance(node, allowed) or docstring, f"line {node.lineno} runs on import"
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"), f"line {node.lineno}"
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        for part in ast.walk(node):
            name = part.attr if isinstance(part, ast.Attribute) else part.id if isinstance(part, ast.Name) else ""
            assert name not in (*FORBIDDEN, "environ"), f"line {node.lineno} looks outside on import"


def test_importing_everything_says_and_leaves_nothing(tmp_path: Path) -> None:
    code = "import importlib, os, sys; import cv2; before = dict(os.environ)\n"  # OpenCV sets a variable of its own
    code += "for name in sys.argv[1:]: importlib.import_module(name)\nassert dict(os.environ) == before"
    modules = [name for name in MODULES if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *modules], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
