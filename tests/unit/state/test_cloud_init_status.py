"""csagent's status in cloud-init's words: when it is over, what is an error, and what is degraded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest

from csagent.state import cloud_init_status as compat
from csagent.state import user_data_mark
from csagent.system.seams import Completed, Runner, System
from csagent.user_data import runner

DAEMON, PATH, EARLY, AFTER_BOOT, FINAL = compat.UNITS
NOT_YET = dict.fromkeys((EARLY, AFTER_BOOT, FINAL), "inactive static")
UP = {DAEMON: "active enabled", PATH: "active enabled", **NOT_YET}
STAGES = {"early": "ended", "final": "ended"}


class Systemd(Runner):
    """A systemctl that says this of our units; None: it is not there."""

    def __init__(self, units: Optional[Dict[str, str]]) -> None:
        self.units = units
        self.asked: List[Sequence[str]] = []
        self.then: Any = lambda: None

    def run(self, argv: Sequence[str], **_more: Any) -> Completed:
        self.asked.append(argv)
        self.then()
        if self.units is None:
            return Completed(None, b"", b"not installed")
        blocks = []
        for name, said in self.units.items():
            active, _, file = said.partition(" ")
            blocks.append(f"Id={name}\nActiveState={active}\nUnitFileState={file}\n")
        return Completed(0, "\n".join(blocks).encode(), b"")


def on(system: System, units: Optional[Dict[str, str]] = None) -> System:
    """The system with a systemd that says so."""
    return system._replace(runner=Systemd(units))


def passed(tree: Path, **more: Any) -> None:
    """A pass has ended, with the router's answer."""
    places = [{"place": "router 10.1.1.1", "outcome": "ok"}]
    put(
        tree,
        "status.json",
        {"source_found": True, "started": 100.5, "finished": 101.5, "places": places, **more},
    )


def ran(tree: Path, **more: Any) -> None:
    """User-data has run, and its record is published."""
    put(tree, "user-data-ready", {"schema": 1, "sha256": "a"})
    said = {"state": "done", "parts": [], "instance": [], "sha256": "a", "by_hand": False, "stages": STAGES}
    put(tree, "user-data.json", {**said, **more})


def put(tree: Path, name: str, document: Dict[str, Any]) -> None:
    (tree / "run/csagent").mkdir(exist_ok=True)
    (tree / "run/csagent" / name).write_text(json.dumps(document))


def part(outcome: str, **more: Any) -> Dict[str, Any]:
    return {"name": "part-001", "kind": "script", "outcome": outcome, "exit": None, **more}


def summary(system: System) -> str:
    """status, extended status and exit code."""
    found = compat.look(system)
    return f"{found.word}, {found.extended}, {found.exit_code}"


@pytest.mark.parametrize(
    ("daemon", "expected"),
    [
        ("active enabled", "running, running, 0"),
        ("activating enabled", "running, running, 0"),
        ("active disabled", "running, running, 0"),
        ("inactive enabled", "not run, not run, 0"),
        ("inactive disabled", "disabled, disabled, 0"),
        ("inactive masked", "disabled, disabled, 0"),
        ("inactive ", "disabled, disabled, 0"),
        ("failed enabled", "error, error - done, 1"),
    ],
)
def test_before_the_first_pass(system: System, daemon: str, expected: str) -> None:
    """It is what the daemon's unit says; only what is to come is waited for."""
    found = on(system, {**UP, DAEMON: daemon})
    assert summary(found) == expected
    assert compat.look(found).is_over == (expected[0] in "de")


def test_without_systemd(system: System, tree: Path) -> None:
    """Nobody says whether a pass is to come; what has ended is done."""
    assert summary(on(system)) == "not run, not run, 0"
    passed(tree)
    assert summary(on(system)) == "done, done, 0"


def test_no_user_data_and_no_source_wait_for_nothing(system: System, tree: Path) -> None:
    """The first pass is all there is, and systemd is not asked."""
    running = on(system, UP)
    passed(tree)
    assert (summary(running), compat.look(running).detail) == ("done, done, 0", "DataSourceCloudStack")
    passed(tree, places=[{"place": "drive /dev/sr1", "outcome": "ok"}])
    assert compat.look(running).detail == "DataSourceConfigDrive"
    passed(tree, source_found=False, places=[{"place": "router 10.1.1.1", "outcome": "timeout"}])
    assert (summary(running), compat.look(running).detail) == ("done, done, 0", "DataSourceNone")
    assert isinstance(running.runner, Systemd) and running.runner.asked == []


def test_both_stages_are_waited_for(system: System, tree: Path) -> None:
    """From the mark on, which is there before the pass has ended, until the final one is over."""
    running = on(system, UP)
    user_data_mark.leave(system, "a")
    passed(tree)
    assert summary(running) == "running, running, 0"
    ran(tree, state="waiting", stages={"early": "ended", "final": "waiting"})
    assert summary(running) == "running, running, 0"
    assert compat.stages_json(compat.look(running))["stage"] == "modules-final"
    ran(tree)
    assert summary(running) == "done, done, 0"
    ran(tree, state="changed")
    assert summary(running) == "done, done, 0"


@pytest.mark.parametrize(
    ("unit", "state", "expected"),
    [
        (EARLY, "failed static", "error, error - done, 1"),
        (EARLY, "active static", "running, running, 0"),
        (AFTER_BOOT, "failed static", "error, error - done, 1"),
        (AFTER_BOOT, "active static", "running, running, 0"),
        (FINAL, "failed static", "error, error - done, 1"),
        (FINAL, "active static", "done, done, 0"),
        (FINAL, "activating static", "running, running, 0"),
        (PATH, "inactive enabled", "running, running, 0"),
        (PATH, "inactive disabled", "error, error - done, 1"),
    ],
)
def test_a_unit_that_leaves_no_record_is_not_waited_for(
    system: System, tree: Path, unit: str, state: str, expected: str
) -> None:
    """The final stage has not been published as ended, and systemd says whether it can still be."""
    user_data_mark.leave(system, "a")
    passed(tree)
    found = on(system, {**UP, unit: state})
    assert summary(found) == expected
    if expected.startswith("error"):
        assert unit in compat.look(found).detail and unit in compat.look(found).all_errors[0]


def test_what_a_unit_left_while_systemd_was_asked_counts(system: System, tree: Path) -> None:
    """The record that it has published by then is newer than what was read before."""
    user_data_mark.leave(system, "a")
    passed(tree)
    found = on(system, {**UP, FINAL: "failed static"})
    assert isinstance(found.runner, Systemd)
    found.runner.then = lambda: ran(tree, state="failed", parts=[part("failed", exit=3)])
    assert compat.look(found).all_errors == ["part-001 (script): failed, exit 3"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([part("done", warnings=["permissions without quotes"])], "done, done, 0"),
        ([part("ignored")], "done, done, 0"),
        ([part("done"), part("failed", exit=3)], "error, error - done, 1"),
        ([part("refused")], "done, degraded done, 2"),
        ([part("interrupted")], "done, degraded done, 2"),
        ([part("refused"), part("failed")], "error, error - done, 1"),
    ],
)
def test_outcomes_of_parts(system: System, tree: Path, parts: List[Any], expected: str) -> None:
    """Failed is an error, what was not carried out is degraded; a warning: neither (field/user-data#U75)."""
    passed(tree)
    ran(tree, parts=parts)
    assert summary(on(system, UP)) == expected


def test_errors_say_what_csagent_status_says(system: System, tree: Path) -> None:
    """A key with its reason, a problem with its line, an account of the settings."""
    passed(tree)
    keys = {"runcmd": "failed, exit 1", "write_files": "done"}
    problem = {"severity": "error", "line": 4, "key": None, "text": "not YAML\x1b[0m"}
    parts = [
        part("failed", exit=1, keys=keys, reasons={"runcmd": "exit code 1"}),
        part("refused", problems=[problem]),
    ]
    ran(tree, parts=parts, instance=[{"key": "users", "state": "failed", "reason": "useradd: no room"}])
    found = compat.look(on(system, UP))
    assert found.all_errors == [
        "part-001 (script): failed, exit 1; runcmd: failed, exit 1: exit code 1",
        "users (settings): useradd: no room",
    ]
    assert found.warnings == ("part-001 (script): refused; line 4: not YAML [0m",)


def test_data_of_the_pass(system: System, tree: Path) -> None:
    """A datum that failed is an error, one that was not believed is degraded."""
    refused = {"state": "refused", "reason": "a stale copy", "wrong": True}
    passed(tree, data={"hostname": {"state": "applied", "wrong": False}, "password": refused})
    assert summary(on(system, UP)) == "done, degraded done, 2"
    passed(tree, data={"hostname": {"state": "failed", "reason": "read-only", "wrong": True}})
    assert summary(on(system, UP)) == "error, error - done, 1"
    assert compat.status_json(compat.look(on(system, UP)))["v1"]["init"]["errors"] == ["hostname: read-only"]


def lacks(account: str) -> Dict[str, Any]:
    """`data` of a pass that has missed an account."""
    return {"ssh_keys": {"state": "failed", "reason": f"there is no account {account}: see the setting user"}}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (UP, "running, running, 0"),
        (None, "running, running, 0"),
        ({**UP, DAEMON: "inactive enabled"}, "error, error - done, 1"),
        ({**UP, DAEMON: "failed enabled"}, "error, error - done, 1"),
    ],
)
def test_account_that_user_data_made_is_waited_for(
    system: System, tree: Path, units: Optional[Dict[str, str]], expected: str
) -> None:
    """Until the daemon has given it what is its own: who waits logs in with that. It is no error so far."""
    passed(tree, data=lacks("root"))
    ran(tree)
    assert summary(on(system, units)) == expected
    passed(tree, data={"ssh_keys": {"state": "applied", "reason": "2 keys"}})
    assert summary(on(system, units)) == "done, done, 0"


def test_waiting_for_an_account_has_an_end(system: System, tree: Path) -> None:
    """One that user-data did not make is an error at its end; one that stays unserved, a minute after it."""
    ran(tree, stages={"early": "ended", "final": "waiting"})
    passed(tree, data=lacks("csagent-nobody"))
    assert summary(on(system, UP)) == "running, running, 0"
    ran(tree)
    assert summary(on(system, UP)) == "error, error - done, 1"
    passed(tree, data=lacks("root"))
    published = tree / "run/csagent/user-data.json"
    at = published.stat().st_mtime - compat.status_files.NEW_ACCOUNT
    os.utime(published, (at, at))
    assert summary(on(system, UP)) == "error, error - done, 1"


def test_documents_have_cloud_inits_layout(system: System, tree: Path) -> None:
    """The members that Ansible's cloud_init_data_facts, and scripts with jq, look at."""
    passed(tree)
    ran(tree)
    found = compat.look(on(system, UP))
    (v1,) = compat.status_json(found).values()
    assert set(v1) == {"datasource", "stage", "init-local", "init", "modules-config", "modules-final"}
    assert v1["stage"] is None and v1["init"]["finished"] == 101.5
    ended = (tree / "run/csagent/user-data.json").stat().st_mtime
    assert v1["modules-final"] == {
        "errors": [],
        "finished": ended,
        "recoverable_errors": {},
        "start": 101.5,
    }
    assert compat.result_json(found) == {"v1": {"datasource": "DataSourceCloudStack", "errors": []}}
    assert compat.report_json(found)["datasource"] == "cloudstack"
    assert compat.rfc_2822(0) == "Thu, 01 Jan 1970 00:00:00 +0000"


def test_a_document_that_is_left_is_over(system: System, tree: Path) -> None:
    """As the runner publishes it, where user-data is cloud-init's or the settings keep it only."""
    passed(tree)
    user_data_mark.leave(system, "a")

    class Source:
        sha256 = "a"

    runner.pass_over(system, Source(), "the setting user_data is keep")  # type: ignore[arg-type]
    assert summary(on(system, UP)) == "done, done, 0"


def test_damaged_members_are_passed_over(system: System, tree: Path) -> None:
    """Something else in the places of lists, numbers and mappings: no traceback."""
    put(tree, "status.json", {"data": 3, "places": {}, "started": "x", "finished": True, "source_found": 1})
    ran(tree, parts=[3, part("failed", keys=[], reasons=3, problems={})], instance={}, stages=STAGES)
    assert summary(on(system, UP)) == "error, error - done, 1"
