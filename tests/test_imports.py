"""The tree is the architecture: imports point one way, and importing the tables costs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "bot", "web", "trainer", "migrations")


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


ALLOWED = {
    "core": {"core"},
    "bot": {"bot", "core", "migrations"},  # the database is brought up to date at start
    "web": {"web", "core", "migrations"},
    "trainer": {"trainer", "core"},
    "migrations": {"migrations", "core"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_only_towards_core(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = {name for name in imported_packages(path) if name in PACKAGES}
        assert ours <= ALLOWED[package], f"{path} imports {sorted(ours - ALLOWED[package])}"


@pytest.mark.parametrize("module", ["core.requests", "core.config", "core.tables", "core.store"])
def test_modules_of_storage_and_settings_do_not_load_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
