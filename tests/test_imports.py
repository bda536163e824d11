"""Arrows run one way, and the keystroke path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("model_runtime", "training", "lsp_server")
HEAVY = ("torch", "transformers", "accelerate", "bitsandbytes", "onnx", "matplotlib", "ray")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, everywhere: bool) -> set[str]:
    """Absolute names that a file imports: at import time, or everywhere in it, functions and all."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            if everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def offenders(paths: list[Path], targets: tuple[str, ...], everywhere: bool) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imports(path, everywhere))
        if any(name == target or name.startswith(target + ".") for target in targets)
    ]


def test_the_scan_sees_imports(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import a.b\nfrom c import d\ndef f():\n    import e\nif 1:\n    import g\nclass K:\n    import h\n"
    )
    assert imports(path, everywhere=False) == {"a.b", "c", "c.d", "g", "h"}
    assert imports(path, everywhere=True) == {"a.b", "c", "c.d", "e", "g", "h"}
    assert len(modules("model_runtime")) > 20


def test_the_runtime_never_imports_what_stands_on_it():
    """The command line may load them by name, late."""
    assert offenders(modules("model_runtime"), ("training", "lsp_server"), everywhere=False) == []


def test_the_runtime_below_the_command_line_never_does_so_even_late():
    paths = [
        path
        for path in modules("model_runtime")
        if path.name not in ("cli.py", "__main__.py") and path.parent.name != "commands"
    ]
    assert offenders(paths, ("training", "lsp_server"), everywhere=True) == []


def test_the_protocol_imports_nothing_of_ours():
    assert offenders([ROOT / "model_runtime" / "protocol.py"], OURS, everywhere=True) == []


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("models", ("backends", "engine", "daemon", "commands", "cli", "client")),
        ("backends", ("engine", "daemon", "commands", "cli", "client")),
        ("catalog", ("engine", "daemon", "commands", "cli", "client")),
        ("engine", ("daemon", "commands", "cli", "client")),
    ],
)
def test_rooms_import_downwards_only(room, above):
    """daemon → engine → backends → models."""
    targets = tuple(f"model_runtime.{name}" for name in above)
    assert offenders(modules(f"model_runtime/{room}"), targets, everywhere=True) == []


def test_ray_stays_in_its_room():
    """Only `diffill cluster` and `diffill serve --cluster` open its door, when asked."""
    others = [path for path in modules("model_runtime") if path.parent.name != "cluster"]
    assert offenders([*others, *modules("lsp_server")], ("ray",), everywhere=True) == []
    below = [path for path in others if path.parent.name != "commands"]
    assert offenders(below, ("model_runtime.cluster",), everywhere=True) == []
    assert loaded_after("import model_runtime.commands.serve") & {*HEAVY} == set()
    assert "ray" not in loaded_after("import model_runtime.commands.cluster")


LIGHT = [
    "model_runtime.cli",
    "model_runtime.protocol",
    "model_runtime.engine.engine",
    "model_runtime.backends.onnx",
    "model_runtime.commands.fill",
]


def loaded_after(statements: str) -> set[str]:
    """Top-level names in sys.modules after some statements in a fresh process."""
    program = f"{statements}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_module_loads_nothing_heavy(name):
    assert loaded_after(f"import {name}") & {*HEAVY, "training", "lsp_server"} == set()


def test_a_fill_loads_nothing_heavy(tiny_models):
    statements = f"""
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest
engine = Engine.load({str(tiny_models["context_blind"].folder)!r})
engine.fill(FillRequest(text="x = ", holes=[(4, 4)], length="fixed:3"))
"""
    loaded = loaded_after(statements)
    assert "onnxruntime" in loaded
    assert loaded & {*HEAVY, "training", "lsp_server"} == set()
