"""`csagent seal` as it is typed, and what it does to a running machine around the sealing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import pytest
from support.guests_to_seal import (
    CLOUD_INIT,
    CONFIGURATION,
    DEBIAN,
    EL,
    HOST_KEYS,
    look,
    plant,
    seal,
    snapshot,
)

from csagent.cli import seal as show
from csagent.cli.main import main
from csagent.console import Console
from csagent.errors import CsagentError, UsageError
from csagent.seal import running
from csagent.seal.leftovers import NAMES
from csagent.state import user_data_record
from csagent.system.seams import Completed, System


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_command_previews_checks_and_seals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes nothing changes; --check names every leftover and says 1; after --yes it says 0."""
    plant(tmp_path, {**CONFIGURATION, **DEBIAN})
    root = ("--root", str(tmp_path), "seal")
    before = snapshot(tmp_path)
    code, text, _ = run(capsys, *root)
    assert code == 0 and "A preview" in text and "--yes does it" in text
    code, text, _ = run(capsys, *root, "--check")
    assert code == 1 and snapshot(tmp_path) == before
    words = "".join(text.split())
    assert all(f"{tmp_path}/{name}" in words for name in HOST_KEYS) and "Notclean" in words
    code, text, _ = run(capsys, *root, "--check", "--json")
    document = json.loads(text)
    assert code == 1 and document["schema"] == 1 and document["clean"] is False
    assert [thing["name"] for thing in document["things"]] == list(NAMES)
    code, text, _ = run(capsys, *root, "--yes", "--hostname", "golden")
    assert code == 0 and "Sealed" in text
    assert (tmp_path / "etc/hostname").read_text() == "golden\n"
    assert run(capsys, *root, "--check", "--hostname", "golden")[0] == 0
    assert run(capsys, *root, "--check", "-q")[:2] == (1, "")


def test_help_names_the_things_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    """What --keep takes is in the help, all of it."""
    code, text, _ = run(capsys, "seal", "--help")
    listed = text.partition("things, in the order in which they go:")[2].partition("exit codes")[0]
    assert code == 0 and listed.replace(",", " ").split() == list(NAMES)


def test_kept_things_stay_and_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--keep leaves a family alone, shows it as kept, and the check is clean with it."""
    plant(tmp_path, DEBIAN)
    words = ("--root", str(tmp_path), "seal", "--keep", "logs", "--keep", "host-keys", "--json")
    code, text, _ = run(capsys, *words, "--yes")
    states = {thing["name"]: thing["state"] for thing in json.loads(text)["things"]}
    assert code == 0 and states["logs"] == states["host-keys"] == "kept" and states["csagent"] == "sealed"
    assert (tmp_path / "var/log/syslog").read_text() == "x"
    assert run(capsys, *words, "--check")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--keep", "everything"], "--keep everything: one of package-caches"),
        (["--hostname", "-x"], "--hostname"),
        (["--yes", "--check"], "not allowed with"),
        (["--yes", "--poweroff"], "on the running machine"),
        (["--password", "none"], "--password"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], told: str
) -> None:
    """Exit code 2, one line that says what would be right, and the tree as it was."""
    plant(tmp_path, DEBIAN)
    before = snapshot(tmp_path)
    code, _, error = run(capsys, "--root", str(tmp_path), "seal", *words)
    assert code == 2 and told in error and error.count("\n") == 1
    assert snapshot(tmp_path) == before


def test_only_a_machines_tree_is_sealed(tmp_path: Path) -> None:
    """A directory without /etc/passwd, and a recording, are refused: nothing in them is removed."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/file").write_text("x")
    with pytest.raises(UsageError, match="no root file system"):
        seal(System.at(str(tmp_path)))
    plant(tmp_path, {"etc/passwd": "root:x:0:0::/root:/bin/sh\n"})
    (tmp_path / "recorded.json").write_text('{"now": 1, "commands": {}}')
    with pytest.raises(UsageError, match="recording"):
        seal(System.at(str(tmp_path)))
    assert (tmp_path / "tmp/file").exists()


@pytest.mark.parametrize("width", [40, 80])
def test_text_fits_the_console(tmp_path: Path, width: int) -> None:
    """No line of preview, check and report is longer than the console; no control character is shown."""
    system = plant(tmp_path, {**EL, **CLOUD_INIT, "tmp/\x1b[2Jname": "x"})
    os.link(tmp_path / "var/log/messages", tmp_path / "srv-x")
    texts = [show.as_text(system, look(system, mode=mode), Console(width)) for mode in ("preview", "check")]
    texts.append(show.as_text(system, seal(system), Console(width), verbose=True))
    assert all(len(line) <= width for text in texts for line in text.splitlines())
    assert "\x1b" not in "".join(texts) and "failed" in texts[2]


class Told:
    """A runner that writes down what it is asked to run."""

    def __init__(self, code: Callable[[Sequence[str]], int]) -> None:
        self.commands: List[List[str]] = []
        self._code = code

    def run(self, argv: Sequence[str], **_options: Any) -> Completed:
        self.commands.append(list(argv))
        return Completed(self._code(argv), b"", b"")


def machine(root: Path, runner: Told, init_root: str = "../..") -> Any:
    """What says that it is the running machine; the first process's root is relative to its /proc/1."""
    (root / "proc/1").mkdir(parents=True, exist_ok=True)
    (root / "proc/1/root").symlink_to(init_root)
    return SimpleNamespace(live=True, tree=System.at(str(root)).tree, runner=runner)


def test_running_writers_are_stopped_and_the_stubborn_ones_named(tmp_path: Path) -> None:
    """Only what is active is stopped; what cannot be is said; the journal leaves the disk."""
    plant(tmp_path, {"run/systemd/system/x": "", "var/log/journal/x": ""})
    active = ("csagent.service", "rsyslog.service")
    runner = Told(
        lambda argv: 0 if argv[-1] == active[0] or ("is-active" in argv and argv[-1] in active) else 1
    )
    notes = running.quieten(machine(tmp_path, runner))
    assert notes == ("stopped csagent.service", "rsyslog.service could not be stopped, and writes on")
    stopped = [command[-1] for command in runner.commands if command[:2] == ["systemctl", "stop"]]
    assert stopped == list(active) and runner.commands[-1] == ["journalctl", "--relinquish-var"]


def test_user_data_that_runs_is_told(tmp_path: Path) -> None:
    """A script that seals the machine it runs on: its record comes back once it has ended."""
    plant(tmp_path, {"run/systemd/system/x": ""})
    system = machine(tmp_path, Told(lambda _argv: 1))
    with user_data_record.locked(system, print):
        assert running.quieten(system) == (running.USER_DATA,)
    assert running.quieten(system) == ()


@pytest.mark.parametrize("booted", [True, False])
def test_user_data_does_not_begin_while_a_machine_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, booted: bool
) -> None:
    """A part that systemd has just started waits for the end; on an image nobody is kept off."""
    plant(tmp_path, {**CONFIGURATION, **DEBIAN})
    monkeypatch.setattr(running, "booted", lambda _system: booted)
    system = System.at(str(tmp_path))
    kept_off: List[bool] = []
    seal(system, between=lambda _step: kept_off.append(user_data_record.running(system)))
    assert kept_off[0] is booted and not user_data_record.running(system)
    assert "user-data" not in {path.name for path in (tmp_path / "var/lib/csagent").glob("*")}


def test_nothing_is_stopped_where_no_systemd_runs(tmp_path: Path) -> None:
    """In a chroot or a container no command is run at all."""
    plant(tmp_path, {})
    runner = Told(lambda _argv: 0)
    assert running.quieten(machine(tmp_path, runner)) == () and runner.commands == []


@pytest.mark.parametrize(
    ("init_root", "files", "expected"),
    [
        ("../..", {"run/systemd/system/x": ""}, True),
        ("../../host", {"run/systemd/system/x": "", "host/x": ""}, False),
        ("../../gone", {"run/systemd/system/x": ""}, False),
        ("../..", {}, False),
    ],
)
def test_chroot_with_the_hosts_run_and_proc_is_no_booted_machine(
    tmp_path: Path, init_root: str, files: Dict[str, str], expected: bool
) -> None:
    """Systemd runs the machine only where its root is ours: else the host's processes would be killed."""
    plant(tmp_path, files)
    runner = Told(lambda _argv: 1)
    assert running.booted(machine(tmp_path, runner, init_root)) is expected
    running.quieten(SimpleNamespace(live=True, tree=System.at(str(tmp_path)).tree, runner=runner))
    assert bool(runner.commands) is expected


@pytest.mark.parametrize(
    ("init_root", "told"), [("../..", "Power it off now"), ("../../host", "Leave this tree now")]
)
def test_what_to_do_next_fits_the_place(tmp_path: Path, init_root: str, told: str) -> None:
    """A machine that runs is to be switched off; a chroot only left: its host is no template."""
    plant(tmp_path, {**CONFIGURATION, **DEBIAN, "run/systemd/system/x": "", "host/x": ""})
    report = seal(System.at(str(tmp_path)))
    text = show.as_text(machine(tmp_path, Told(lambda _argv: 0), init_root), report, Console(200))
    assert told in text and text.count(" now") == 1


def test_those_that_write_at_their_end_are_found(tmp_path: Path) -> None:
    """A login shell, a DHCP client; not a shell without a terminal, another program, rubbish."""
    for pid, line in {
        "10": "10 (bash) S 1 10 10 34816 10 0",
        "11": "11 (sh) S 1 11 11 0 -1 0",
        "12": "12 (sshd) S 1 12 12 34816 10 0",
        "13": "13 (zsh) ",
        "14": "14 (dhclient) S 1 14 14 0 -1 0",
        "self": "x",
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(line)
    assert sorted(running.doomed(str(tmp_path))) == [10, 14]


@pytest.fixture
def hangup() -> Iterator[None]:
    """Sets back what power_off makes of two signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("hangup")
def test_failed_power_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where systemctl fails the operator hears what to do instead."""
    monkeypatch.setattr(running, "doomed", lambda: iter(()))
    runner = Told(lambda _argv: 1)
    with pytest.raises(CsagentError, match="switch it off"):
        running.power_off(machine(tmp_path, runner))
    assert runner.commands == [["systemctl", "--force", "poweroff"]]
