"""What doctor says of user-data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from csagent.doctor.checks.user_data import user_data
from csagent.doctor.context import Situation
from csagent.settings import Settings
from csagent.state import user_data_mark, user_data_record
from csagent.system.seams import System

DEFAULTS = Settings()


def found(system: System, settings: Settings = DEFAULTS, **status: Any) -> List[Tuple[str, str, str]]:
    situation = Situation(system, settings, status={"data": {"user_data": status}} if status else None)
    return [(one.state, one.saw, one.means) for one in user_data(situation)]


def published(tree: Path, **document: Any) -> None:
    (tree / "run/csagent").mkdir(exist_ok=True)
    whole = {"schema": 1, "state": "done", "parts": [], "sha256": "a", "by_hand": False, **document}
    (tree / "run/csagent/user-data.json").write_text(json.dumps(whole))


def test_none(system: System) -> None:
    """No document, or a setting."""
    assert found(system) == [("ok", "nothing of it has run", "no pass has seen any")]
    assert found(system, state="absent", reason="no source gave user-data") == [
        ("ok", "nothing of it has run", "no source gave user-data")
    ]
    assert found(system, Settings(user_data="keep")) == [
        ("note", "not run: the setting user_data is keep", "")
    ]


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ("done", "ok"),
        ("ignored", "ok"),
        ("changed", "note"),
        ("failed", "warning"),
        ("refused", "warning"),
        ("interrupted", "warning"),
    ],
)
def test_states(system: System, tree: Path, state: str, level: str) -> None:
    """Each has a level; what is not well has an advice."""
    published(tree, state=state)
    (one,) = user_data(Situation(system, Settings()))
    assert (one.state, one.saw) == (level, state)
    assert bool(one.advice) == (level != "ok")


def test_running(system: System, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs it holds a lock: after a SIGKILL the file still says that it runs, and nobody does."""
    published(tree, state="running")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with user_data_record.locked(system, lambda _text: None):
        assert found(system) == [("note", "running", "a script takes as long as it takes")]
    ((level, saw, _means),) = found(system)
    assert (level, saw) == ("warning", "running, but no run of it is under way")
    monkeypatch.setattr("os.geteuid", lambda: 1000)  # who cannot open the lock
    assert found(system)[0][:2] == ("note", "running")


def test_waiting(system: System) -> None:
    """The mark is there, and no unit has taken it."""
    user_data_mark.leave(system, "a")
    assert found(system) == [("note", "waiting", "its units have not run it yet")]


def test_parts_say_why(system: System, tree: Path) -> None:
    """Key, reason, line, exit code; a part that is well is not shown."""
    bad = {"name": "a", "kind": "cloud-config", "outcome": "failed", "exit": 3, "keys": {"runcmd": "failed"}}
    bad["reasons"] = {"runcmd": "exit 3"}
    refused = {"name": "b", "kind": "script", "outcome": "refused"}
    refused["problems"] = [{"line": 2, "key": None, "text": "x", "severity": "error"}]
    published(tree, state="failed", parts=[bad, refused, {"name": "c", "outcome": "done"}, 7])
    assert found(system)[1:] == [
        ("note", "a (cloud-config): failed", "runcmd: exit 3; exit 3"),
        ("note", "b (script): refused", "line 2: x"),
    ]


def test_a_damaged_file_is_told(system: System, tree: Path) -> None:
    """Not a traceback."""
    (tree / "run/csagent").mkdir()
    (tree / "run/csagent/user-data.json").write_text("{")
    assert "damaged" in found(system)[0][1]


def test_a_note_says_why_it_is_left(system: System, tree: Path) -> None:
    """cloud-init has run it before."""
    published(tree, state="ignored", notes=["cloud-init has run it"])
    assert found(system) == [("ok", "ignored", "cloud-init has run it")]
