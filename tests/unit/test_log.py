"""The log: journald's native protocol where the journal reads us, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.apply.executor import TOLD, PlanExecutor
from csagent.log import NORMAL, PATIENCE, QUIET, VALUE_LIMIT, VERBOSE, Log, native
from csagent.plan import Leave, Outcome, Plan
from csagent.state.applied import Memory
from csagent.system.seams import System

REPOSITORY = Path(__file__).resolve().parents[2]
APPLIED = {"event": "applied", "datum": "password", "source": "router 10.1.1.1", "instance": "i-2-3-VM"}


def parsed(entry: bytes) -> Dict[str, str]:
    """One entry of the native protocol, read strictly."""
    found: Dict[str, str] = {}
    while entry:
        line, newline, rest = entry.partition(b"\n")
        assert newline
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert len(value) == size and end == b"\n"
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name) and name.decode() not in found
        found[name.decode()], entry = value.decode(), rest
    return found


class Journal:
    """A socket in the place of journald's."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._monkeypatch = str(path), monkeypatch
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(self.path)
        self._channel.setblocking(False)

    def log(self, verbosity: int = NORMAL, path: Optional[Path] = None) -> Log:
        """A log whose standard error, the file that capfd has put there, is this journal's stream."""
        stream = os.fstat(2)  # while fixtures are set up it is another file
        self._monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        return Log(verbosity, str(path or self.path))

    def entries(self) -> List[Dict[str, str]]:
        found = []
        try:
            while True:
                found.append(parsed(self._channel.recv(1 << 20)))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Journal]:
    """A journal; capfd is what its log's standard error is looked at with."""
    listening = Journal(tmp_path / "journal", monkeypatch)
    try:
        yield listening
    finally:
        listening.close()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text()))
def test_no_value_can_pass_for_another_field(fields: Dict[str, str]) -> None:
    """Whatever stands in a value, newlines included, the journal reads the same fields."""
    printable = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in fields.items()}
    assert parsed(native(fields)) == printable


def test_fields_in_the_journal(journal: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    """A decision has its fields, an entry has no empty one, and nothing is said twice."""
    log = journal.log()
    log.info("password  applied:\nfirst", **APPLIED)
    log.error("broken", event="failed", source="", datum="")
    common = {"SYSLOG_IDENTIFIER": "csagent"}
    assert journal.entries() == [
        {
            **common,
            "MESSAGE": "password applied: first",
            "PRIORITY": "6",
            "CSAGENT_EVENT": "applied",
            "CSAGENT_DATUM": "password",
            "CSAGENT_SOURCE": "router 10.1.1.1",
            "CSAGENT_INSTANCE": "i-2-3-VM",
        },
        {**common, "MESSAGE": "broken", "PRIORITY": "3", "CSAGENT_EVENT": "failed"},
    ]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("event", "priority"), [("applied", "6"), ("failed", "3"), ("refused", "4"), ("unacknowledged", "4")]
)
def test_priority_of_a_decision_is_its_events(journal: Journal, event: str, priority: str) -> None:
    """`journalctl -p warning` shows what went wrong, though all decisions are logged alike."""
    journal.log().info("so it is", event=event)
    assert [entry["PRIORITY"] for entry in journal.entries()] == [priority]


def test_verbosity_holds_for_the_journal(journal: Journal) -> None:
    """-q leaves errors and warnings, -v adds what led to a decision."""
    for verbosity in (QUIET, NORMAL, VERBOSE):
        log = journal.log(verbosity)
        for say in (log.error, log.warning, log.info, log.debug):
            say("line")
        assert len(journal.entries()) == verbosity + 2


def test_a_pass_in_its_own_process_is_about_the_daemon(journal: Journal) -> None:
    """Its entries name the process that made the log, so that journald finds the unit after its end."""
    log = journal.log()
    log.info("the daemon")
    child = os.fork()
    if child == 0:
        log.info("the pass")
        os._exit(0)
    os.waitpid(child, 0)
    assert [entry.get("OBJECT_PID") for entry in journal.entries()] == [None, str(os.getpid())]


def test_without_the_socket_the_stream_gets_it(
    journal: Journal, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No journald, or none that listens there: the line goes to the stream, with its priority."""
    for path in (tmp_path / "none", tmp_path):
        journal.log(path=path).info("password applied", **APPLIED)
    journal.log(path=tmp_path / "none").info("it broke", event="failed")
    assert capfd.readouterr().err == "<6>password applied\n" * 2 + "<3>it broke\n"


def test_too_large_for_a_datagram(journal: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    """A line is cut before it is too large for the socket, and so is a field."""
    journal.log().info("x" * 1_000_000, event="applied", source="y" * 1_000_000)
    (entry,) = journal.entries()
    assert entry["MESSAGE"] == "x" * VALUE_LIMIT and entry["CSAGENT_SOURCE"] == "y" * VALUE_LIMIT
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\x9bb", "a\u202eb", "a\x00b", "a\r\nb", "a\udc80b"])
def test_nothing_that_steers_a_terminal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    """Neither in the journal nor on standard error, in the line or in a field, whoever wrote it."""
    journal.log().info(text, source=text)
    (entry,) = journal.entries()
    monkeypatch.delenv("JOURNAL_STREAM")
    Log(NORMAL, journal.path).info(text)
    for shown in (entry["MESSAGE"], entry["CSAGENT_SOURCE"], capfd.readouterr().err.rstrip("\n")):
        assert shown.isprintable() and shown.endswith("b")


def test_a_journal_that_does_not_read_holds_nobody_up(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    """A full queue costs a line a moment, and then it goes to the stream."""
    log = journal.log()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"MESSAGE=x\n", journal.path)
    began = time.monotonic()
    log.info("still here")
    assert time.monotonic() - began >= PATIENCE and capfd.readouterr().err == "<6>still here\n"


def test_plain_lines_where_there_is_no_journal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a terminal, and where JOURNAL_STREAM is another stream than ours, nothing goes to the journal."""
    for stream in ("", "1:2", "garbage"):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        Log(NORMAL, journal.path).info("password applied", **APPLIED)
    assert journal.entries() == [] and capfd.readouterr().err == "csagent: password applied\n" * 3


def test_the_resident_process_pays_for_no_import() -> None:
    """Neither typing nor a socket, as long as nothing is written to a journal."""
    code = "import sys; from csagent.log import Log; Log().info('x', event='applied'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "csagent.log" in done.stdout.split()
    assert set(done.stdout.split()).isdisjoint({"socket", "typing", "logging"})


# --- what is said ---


class Heard:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: List[Dict[str, str]] = []

    def __call__(self, text: str, **fields: str) -> None:
        self.lines.append({"text": text, **fields})


@pytest.fixture
def says(system: System, monkeypatch: pytest.MonkeyPatch) -> Callable[..., List[Dict[str, str]]]:
    """`says(outcome, previous)`: what is logged of an outcome, after that entry of the last status."""

    def run(outcome: Outcome, previous: object = None, reason: str = "why") -> List[Dict[str, str]]:
        heard = Heard()
        known = Memory(instance_id="i-2-3-VM", salt=b"x")
        worker = PlanExecutor(system, known, heard, lambda *_: (), previous={outcome.datum: previous})
        monkeypatch.setattr(worker, "_one", lambda _action: outcome)
        action = Leave(outcome.datum, reason, outcome.source)
        assert worker.carry_out(Plan((action,))) == (outcome,)
        return heard.lines

    return run


def as_before(outcome: Outcome) -> Dict[str, object]:
    """The entry of status.json that an outcome leaves."""
    entry: Dict[str, object] = {
        "state": outcome.state,
        "reason": outcome.reason,
        "source": outcome.source or None,
    }
    if outcome.acknowledged is not None:
        entry["acknowledged"] = outcome.acknowledged
    return entry


FIELDS = {"datum": "password", "source": "router 10.1.1.1", "instance": "i-2-3-VM"}


def test_applied_and_acknowledged_are_two_lines(says: Callable[..., List[Dict[str, str]]]) -> None:
    """Setting a password is one decision, telling the server another; both whatever was before."""
    outcome = Outcome("password", "applied", "why", "router 10.1.1.1", acknowledged="yes")
    said = [
        {"text": "password applied: why (router 10.1.1.1)", "event": "applied", **FIELDS},
        {"text": f"password acknowledged: {TOLD} (router 10.1.1.1)", "event": "acknowledged", **FIELDS},
    ]
    assert says(outcome) == said and says(outcome, as_before(outcome)) == said


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Outcome("password", "refused", "stale", "router 10.1.1.1"), "refused"),
        (Outcome("password", "failed", "disk full", "router 10.1.1.1", True), "failed"),
        (
            Outcome("password", "unchanged", "why; nobody", "router 10.1.1.1", True, "no"),
            "unacknowledged",
        ),
        (Outcome("password", "unchanged", "why", "router 10.1.1.1", acknowledged="yes"), "acknowledged"),
    ],
)
def test_the_same_again_is_silent(
    says: Callable[..., List[Dict[str, str]]], outcome: Outcome, event: str
) -> None:
    """What is refused or fails at every poll is one line, until it changes."""
    assert [line["event"] for line in says(outcome)] == [event]
    assert says(outcome, as_before(outcome)) == []
    for change in ({"state": "unknown"}, {"reason": "another"}, {"source": None}):
        assert len(says(outcome, {**as_before(outcome), **change})) == 1
    damaged: object
    for damaged in ([], "x", 1, {}, {"state": {}, "reason": 1}):
        assert len(says(outcome, damaged)) == 1


@pytest.mark.parametrize("state", ["unchanged", "absent", "unknown", "off"])
def test_nothing_to_do_is_silent(says: Callable[..., List[Dict[str, str]]], state: str) -> None:
    """What changes nothing is in the status, and not in the log."""
    assert says(Outcome("password", state, "why", "router 10.1.1.1")) == []


def test_no_instance_is_no_field(system: System) -> None:
    """Before a source has told the instance id, the field is empty, which leaves it out."""
    heard = Heard()
    PlanExecutor(system, Memory(), heard, lambda *_: ()).carry_out(
        Plan((Leave("password", "stale", state="refused"),))
    )
    assert [line["instance"] for line in heard.lines] == [""]


def test_every_event_is_documented() -> None:
    """docs/monitoring.md lists each event name that the code uses, and no other."""
    used = set()
    for path in (REPOSITORY / "csagent").rglob("*.py"):
        used |= set(re.findall(r'(?:\bevent=|\._event\()"([a-z-]+)"', path.read_text()))
    watched = (REPOSITORY / "csagent/system/events.py").read_text()
    used |= set(re.findall(r'^    name = "([a-z-]+)"', watched, re.MULTILINE))
    used |= {"refused", "failed"}  # an outcome's state
    section = (
        (REPOSITORY / "docs/monitoring.md").read_text().split("\n## In the journal\n")[1].split("\n## ")[0]
    )
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)} == used
