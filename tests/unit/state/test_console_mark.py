"""When the console is due a line, and whether the host keys go with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest

from csagent.state import console_mark
from csagent.system.seams import System


def put(tree: Path, name: str, text: str) -> None:
    (tree / "run/csagent").mkdir(exist_ok=True)
    (tree / "run/csagent" / name).write_text(text)


@pytest.mark.parametrize(
    ("before", "found", "first", "due"),
    [
        (None, True, True, {"schema": 1, "host_keys": True}),
        (None, True, False, {"schema": 1, "host_keys": False}),
        (None, False, False, {"schema": 1, "host_keys": False}),
        (False, True, True, {"schema": 1, "host_keys": True}),
        (False, False, False, None),
        (True, True, False, None),
        (True, False, False, None),
    ],
)
def test_the_first_pass_is_due_a_line_and_a_source_that_turns_up(
    system: System, tree: Path, before: Optional[bool], found: bool, first: bool, due: Optional[object]
) -> None:
    """No other pass is; a router that does not answer later is no news for the console."""
    console_mark.leave(system, before, found=found, first=first)
    path = tree / "run/csagent/console-due"
    assert (json.loads(path.read_text()) if path.exists() else None) == due
    if due is not None:
        path.rename(tree / "run/csagent/console")
        assert console_mark.shows_host_keys(str(tree)) is (found and first)


def test_what_the_last_pass_found(system: System, tree: Path) -> None:
    """Nothing since the boot, a source, none; a damaged file is as none."""
    assert console_mark.source_found(system) is None
    for text, found in (('{"source_found": true}', True), ('{"source_found": false}', False), ("[", None)):
        put(tree, "status.json", text)
        assert console_mark.source_found(system) is found


def test_a_run_that_cannot_be_marked_costs_no_pass(system: System, tree: Path) -> None:
    """Something in the way of /run/csagent; and a damaged mark shows no keys."""
    (tree / "run/csagent").write_text("")
    console_mark.leave(system, None, found=True, first=True)
    assert console_mark.shows_host_keys(str(tree)) is False
    (tree / "run/csagent").unlink()
    put(tree, "console", "[")
    assert console_mark.shows_host_keys(str(tree)) is False
