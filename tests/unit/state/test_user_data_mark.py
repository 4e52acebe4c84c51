"""The mark that a pass leaves for user-data, and what status makes of it and of what has run."""

from __future__ import annotations

import errno
import json
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import pytest

from csagent.apply import ssh_keys
from csagent.cli.main import main
from csagent.errors import ApplyError, CsagentError
from csagent.state import status_files, user_data_mark
from csagent.state.status_files import user_data, wait_for_new_account, wait_for_user_data
from csagent.system import accounts
from csagent.system.seams import System


def put(tree: Path, name: str, document: Dict[str, Any]) -> None:
    (tree / "run/csagent").mkdir(exist_ok=True)
    (tree / "run/csagent" / name).write_text(json.dumps(document))


def ran(tree: Path, sha256: str = "a", **more: Any) -> None:
    document = {"schema": 1, "state": "done", "parts": [], "sha256": sha256, "by_hand": False, **more}
    put(tree, "user-data.json", document)


def state(tree: Path) -> Optional[str]:
    found = user_data(str(tree))
    return None if found is None else found["state"]


def test_states(system: System, tree: Path) -> None:
    """None to run, one that is to come, one that ran, one that has changed since; documents by hand apart."""
    assert state(tree) is None
    user_data_mark.leave(system, "a")
    assert state(tree) == "waiting"
    ran(tree, by_hand=True)
    assert state(tree) == "waiting"
    ran(tree)
    assert state(tree) == "done"
    user_data_mark.leave(system, "b")
    assert state(tree) == "changed"
    user_data_mark.leave(system, "")
    assert state(tree) == "done"
    assert not (tree / "run/csagent/user-data-ready").exists()


def test_a_run_that_cannot_be_marked_costs_no_pass(system: System, tree: Path) -> None:
    """Something in the way of /run/csagent."""
    (tree / "run/csagent").write_text("")
    user_data_mark.leave(system, "a")
    user_data_mark.leave(system, "")


def test_waiting_for_a_stage(system: System, tree: Path) -> None:
    """Nothing to run: at once. Else until that stage has ended, or the time is up."""
    assert wait_for_user_data(str(tree), 0.0, final=True) is None
    user_data_mark.leave(system, "a")
    with pytest.raises(CsagentError, match="the early stage of user-data has not ended within 0 s"):
        wait_for_user_data(str(tree), 0.0, final=False)
    ran(tree, stages={"early": "ended", "final": "waiting"})
    assert wait_for_user_data(str(tree), 0.0, final=False) is not None
    with pytest.raises(CsagentError, match="the final stage"):
        wait_for_user_data(str(tree), 0.0, final=True)
    ran(tree, stages={"early": "ended", "final": "ended"})
    assert wait_for_user_data(str(tree), 0.0, final=True) is not None


def test_status_shows_it(system: System, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Per part and key, with the reason, in words and as JSON; with hostile content on one line."""
    put(tree, "status.json", {"schema": 1, "source_found": True, "data": {}, "places": []})
    part = {
        "name": "part-001\x1b[31m",
        "kind": "cloud-config",
        "template": True,
        "outcome": "failed",
        "exit": 3,
        "keys": {"runcmd": "failed, exit 3", "users": "done"},
        "reasons": {"runcmd": "exit 3"},
        "problems": [{"line": 4, "key": None, "text": "x", "severity": "error"}],
        "warnings": ["line 2: y"],
    }
    ran(tree, state="interrupted", parts=[part, 5])
    assert main(["--root", str(tree), "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["user_data"]["parts"][0]["exit"] == 3
    assert main(["--root", str(tree), "status"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "user-data run: interrupted",
        "(template of a cloud-config): failed, exit 3",
        "runcmd: failed, exit 3: exit 3",
        "line 4: x",
        "warning: line 2: y",
        "what was cut short does not run again by itself",
    ):
        assert text in shown
    assert "\x1b" not in shown
    assert "users" not in shown


@pytest.mark.parametrize("word", ["--user-data", "--first-pass"])
def test_what_is_waited_for_needs_wait(tree: Path, capsys: pytest.CaptureFixture[str], word: str) -> None:
    """`status --user-data` alone would say nothing."""
    assert main(["--root", str(tree), "status", word]) == 2
    assert f"{word} goes with --wait" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "asked"), [([], True), (["--first-pass"], False)])
def test_who_waits_for_the_first_pass_need_not_wait_for_user_data(
    monkeypatch: pytest.MonkeyPatch, words: List[str], asked: bool
) -> None:
    """csagent-ready.target is of the first pass only: user-data may run for an hour, behind the network."""
    waits: List[float] = []
    monkeypatch.setattr(status_files, "wait_for", lambda *_args: {"schema": 1})
    monkeypatch.setattr(status_files, "user_data", lambda _root: None)
    monkeypatch.setattr(status_files, "wait_for_user_data", lambda _root, left, **_more: waits.append(left))
    assert main(["--quiet", "status", "--wait", "5", *words]) == 0
    assert bool(waits) is asked


@pytest.mark.parametrize(
    ("reason", "looks"),
    [
        ("there is no account root: see the setting user: there is no such user", 3),
        ("there is no account csagent-nobody: see the setting user", 1),
        ("chpasswd refused it", 1),
        ("/x/.ssh/authorized_keys: the home directory / of x: No such file or directory", 3),
        ("/x/.ssh/authorized_keys: the home directory / of x: Permission denied", 1),
    ],
)
def test_account_that_user_data_made_is_waited_for(
    reason: str, looks: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it, or its home, is there and was missed by the last pass, until one has given it its own."""
    missed = {"data": {"ssh_keys": {"state": "failed", "reason": reason}, "password": None}}
    done = {"data": {"ssh_keys": {"state": "applied", "reason": "2 keys"}}}
    given = iter([missed, missed, done])
    seen: List[Dict[str, Any]] = []

    def load(_root: str, _path: str) -> Dict[str, Any]:
        seen.append(next(given))
        return seen[-1]

    monkeypatch.setattr(status_files, "load", load)
    monkeypatch.setattr(status_files, "LOOK_AGAIN", 0.0)
    assert wait_for_new_account(str(tree), 600.0) == seen[-1]
    assert len(seen) == looks


def test_missing_account_is_told_in_the_words_that_are_waited_for() -> None:
    """What `find` says is what `wait_for_new_account` reads."""
    with pytest.raises(ApplyError, match=f"^{status_files.MISSED_ACCOUNT}csagent-nobody:"):
        accounts.find(System(), "csagent-nobody")


def test_missing_home_is_told_in_the_words_that_are_waited_for(tree: Path) -> None:
    """What `write_keys` says is what `owes_to_an_account` reads, once the home is there."""
    me = pwd.getpwuid(os.geteuid())
    account = accounts.Account(me.pw_name, me.pw_uid, me.pw_gid, str(tree / "home of"), me.pw_shell)
    with pytest.raises(ApplyError) as told:
        ssh_keys.write_keys(System(), account, ())
    document = {"data": {"ssh_keys": {"state": "failed", "reason": str(told.value)}}}
    assert not status_files.owes_to_an_account(document)
    (tree / "home of").mkdir()
    assert status_files.owes_to_an_account(document)


@pytest.mark.parametrize(("number", "owes"), [(errno.EACCES, True), (errno.ENOENT, False)])
def test_home_that_a_unit_may_not_see_may_be_there(
    number: int, owes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ProtectHome= nobody can tell."""

    def stat(path: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", stat)
    reason = "/home/x/.ssh/authorized_keys: the home directory /home/x of x: No such file or directory"
    document = {"data": {"ssh_keys": {"state": "failed", "reason": reason}}}
    assert status_files.owes_to_an_account(document) is owes


def test_waiting_for_an_account_has_an_end(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is given then."""
    missed = {"data": {"password": {"state": "failed", "reason": "there is no account root: see"}}}
    put(tree, "status.json", missed)
    monkeypatch.setattr(status_files, "NEW_ACCOUNT", 0.0)
    assert wait_for_new_account(str(tree), 600.0) == missed


@pytest.mark.parametrize("name", ["status.json", "user-data.json"])
def test_what_is_damaged_is_waited_for(
    name: str, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where there is none yet, since it is written anew; at the end of the time it is what is wrong."""
    whole: Dict[str, Dict[str, Any]] = {
        "status.json": {"schema": 1},
        "user-data.json": {"stages": {"final": "ended"}},
    }
    for one, document in whole.items():
        put(tree, one, document)
    damaged = tree / "run/csagent" / name
    damaged.write_text('{"sch')
    now = [0.0]
    mended_at = [1.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > mended_at[0]:
            damaged.write_text(json.dumps(whole[name]))

    monkeypatch.setattr(status_files, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    words = ["--root", str(tree), "--quiet", "status", "--user-data", "--wait"]
    assert main([*words, "60"]) == 0 and 1.0 < now[0] < 2.0
    damaged.write_text('{"sch')
    now[0], mended_at[0] = 0.0, 1e9
    assert main([*words, "5"]) == 1 and now[0] >= 4.5
    assert f"/run/csagent/{name} is damaged" in capsys.readouterr().err
