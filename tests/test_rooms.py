"""Imports point one way: scripts -> app -> fast -> losses, hmc -> nn."""

import ast

import pytest

from tests.scripts import ROOT

BELOW = {"nn": [], "losses": ["nn"], "hmc": ["nn"], "fast": ["nn", "losses", "hmc"]}
BELOW["app"] = [*BELOW["fast"], "fast"]
ROOMS = set(BELOW)
FILES = [path for room in BELOW for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path):
    """The packages that a file imports, by the first part of their names, with whole names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0], node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    for package, name in imported(path):
        if package in ROOMS - {room}:
            assert package in BELOW[room], f"{path} imports {name}"
        assert package != "matplotlib" or path == ROOT / "app" / "pictures" / "canvas.py", path
        if package == "cupy":
            assert path == ROOT / "nn" / "backend.py", path
        scripts = "train", "visualize", "reproduce", "minimal", "tests", "benchmarks"
        assert package not in scripts, f"{path} imports {name}"


def test_the_textbook_is_short():
    """1,200 lines for the paper's nets; 200 for the activations of the nets that people have: a
    dozen functions side by side, where a reader looks up one; 30 for the net of --mode samples."""
    lines = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "nn").glob("*.py")}
    assert lines.pop("activations") <= 200
    assert sum(lines.values()) <= 1230


def test_no_two_modules_of_a_room_have_one_name():
    for room in BELOW:
        stems = [p.stem for p in (ROOT / room).glob("*.py") if p.stem != "__init__"]
        assert len(stems) == len(set(stems))
