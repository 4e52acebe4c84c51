"""The floors of the house: a folder imports what stands below it, nothing beside it and nothing above."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, List, Set, Tuple

PACKAGE = Path(__file__).resolve().parents[2] / "csagent"
FLOORS = (
    {"__main__"},
    {"cli"},
    {"daemon", "doctor", "seal", "lab", "user_data", "install"},
    {"agent"},
    {"decide", "sources", "apply", "other_agents"},
    {"discovery", "state", "sandbox", "settings"},
    {"system", "plan", "validation"},
    {"model", "errors", "log", "console", "__init__"},
)
MODULES = {path: path.relative_to(PACKAGE).parts[0].partition(".")[0] for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> Iterator[Tuple[int, str]]:
    """(line, dotted name below csagent) of each import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "csagent":
            inside = (node.module or "").partition(".")[2]
            yield from ((node.lineno, f"{inside}.{alias.name}".lstrip(".")) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name[8:]) for alias in node.names if alias.name.startswith("csagent.")
            )


def test_every_room_is_on_a_floor() -> None:
    """A new folder or module at the top has to say where it stands; none stands there twice."""
    assert set(MODULES.values()) <= set().union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(set().union(*FLOORS))


def test_imports_go_downwards() -> None:
    """No folder imports one of its own floor or of one above."""
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    wrong: List[str] = []
    for path, room in MODULES.items():
        for line, name in imported(path):
            target = name.partition(".")[0]
            target = target if target in level else "__init__"  # csagent.__version__
            if target != room and level[target] <= level[room]:
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line}: {room} imports {target}")
    assert wrong == []


def test_no_circle() -> None:
    """No module imports itself by way of others, not even inside a function."""
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in MODULES
    }
    arrows = {
        name: {full if full in names else full.rpartition(".")[0] for _, full in imported(path)}
        & set(names) - {name}
        for name, path in names.items()
    }
    done: Set[str] = set()

    def visit(name: str, way: Tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for target in sorted(arrows[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in names:
        visit(name, ())
