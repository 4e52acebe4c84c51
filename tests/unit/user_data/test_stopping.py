"""SIGTERM while user-data runs: what has been done is recorded, what has not begun is for the next boot."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, NoReturn

import pytest

from csagent.model import Secret
from csagent.state import user_data_record as records
from csagent.system.seams import Clock, Completed, System
from csagent.user_data import runner
from csagent.user_data.log_file import LogFile
from csagent.user_data.machine import FOLLOW_SECONDS, Machine
from csagent.user_data.plan import Part, Plan, Step
from csagent.user_data.source import Source
from csagent.user_data.stopping import LOOKS, Stop
from csagent.user_data.surroundings import Facts


class Gone(BaseException):
    """This process has given way to SIGTERM."""


@pytest.fixture(autouse=True)
def gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> NoReturn:
        raise Gone

    monkeypatch.setattr(Stop, "give_way", staticmethod(gone))


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Does(NamedTuple):
    """A step that calls something."""

    work: Callable[[Machine], Any]

    def carry_out(self, machine: Machine) -> None:
        self.work(machine)


def plan(first: Callable[[Machine], Any], ran: List[str], slot: str = "scripts") -> Plan:
    """A step that does that, and one behind it that says that it ran."""
    steps = (
        Step("first", slot, "script", "first", Does(first), (0,)),
        Step("second", "final_message", "script", "second", Does(lambda _: ran.append("second")), (0,)),
    )
    return Plan("script", (Part("user-data", "script"),), steps)


def states(system: System, chosen: Plan) -> Dict[str, str]:
    """How far each step has come, by the record, once the runner has ended or given way."""
    facts = Facts(instance_id="i-2-3-VM")
    source = Source(Secret(b"#!"), facts, records.folder_of(facts.instance_id), False, "test")
    before = signal.getsignal(signal.SIGTERM)
    try:
        runner.Runner(system, source, chosen).run()
    except Gone:
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    return {name: state.state for name, state in records.Record(system, source.folder).steps.items()}


def test_what_a_step_has_done_is_recorded(system: System) -> None:
    """SIGTERM comes between the end of a script and the record of it; what is behind it has not begun."""
    ran: List[str] = []
    assert states(system, plan(lambda _: terminate(), ran)) == {"first": "done"}
    assert ran == []


def test_the_machine_goes_down_before_the_signal_is_there(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`reboot` has ended and systemd has not come to us yet: nothing more begins."""
    ran: List[str] = []
    monkeypatch.setattr(Machine, "is_going_down", lambda _self: True)
    assert states(system, plan(lambda _: None, ran)) == {"first": "done"}
    assert ran == []


def test_a_step_that_waits_for_others_is_broken_off(system: System) -> None:
    """phone_home may try for minutes: SIGTERM is not put off for it."""
    with pytest.raises(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            states(system, plan(lambda _: terminate(), [], slot="phone_home"))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class FakeClock(Clock):
    """Waiting costs nothing; each sleep may bring something."""

    def __init__(self) -> None:
        self.time = 0.0
        self.wakes: Iterator[Callable[[], None]] = iter(())

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        next(self.wakes, lambda: None)()


class FakeRunner:
    """systemctl, which says that."""

    def __init__(self, answer: Completed) -> None:
        self.answer, self.asked = answer, [()]  # type: Completed, List[Tuple[str, ...]]

    def run(self, words: List[str], **_: Any) -> Completed:
        self.asked.append(tuple(words))
        return self.answer


class Script:
    """A child that is waited for: it ends at that look, or never."""

    pid = 0

    def __init__(self, ends: int, code: int = 0) -> None:
        self.looks, self._ends, self._code = 0, ends, code

    def wait(self, seconds: float) -> int:
        if self.looks >= self._ends:
            return self._code
        self.looks += 1
        raise subprocess.TimeoutExpired("script", seconds)

    def poll(self) -> Any:
        return self._code if self.looks >= self._ends else None


@pytest.fixture
def machine(system: System) -> Iterator[Machine]:
    log = LogFile(system)
    yield Machine(system, "/var/lib/csagent/user-data/x", "x", {}, log)
    log.close()


def test_a_script_that_goes_on(machine: Machine) -> None:
    """It is waited for as many looks as any script needs for its end, and then left alone."""
    machine.stop.asked = True
    script = Script(ends=1_000_000)
    with pytest.raises(Gone):
        machine._wait(script)  # type: ignore[arg-type]
    assert script.looks == LOOKS + 1


def test_a_script_has_no_limit_without_the_signal(machine: Machine) -> None:
    """However often it is looked at."""
    assert machine._wait(Script(ends=LOOKS * 100, code=3)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", [0, 1, LOOKS, LOOKS + 1])
def test_a_script_that_ends_after_the_signal(machine: Machine, ends: int) -> None:
    """Has ended as it did, also where that was seen at the last look only."""
    machine.stop.asked = True
    assert machine._wait(Script(ends, code=3)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("null", [os.devnull, "/nowhere/null"])
def test_a_script_is_told_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch, null: str) -> None:
    """Whether there is a /dev/null or not: a container's /dev may be empty."""
    monkeypatch.setattr(os, "devnull", null)
    assert machine._start(["sh", "-c", "! read word"], dict(os.environ)).wait(60) == 0


def live(machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: Completed) -> FakeRunner:
    """The machine, as if it ran; systemctl says that."""
    said = FakeRunner(answer)
    monkeypatch.setattr(System, "live", True)
    machine.system = machine.system._replace(runner=said)  # type: ignore[arg-type]
    return said


@pytest.mark.parametrize(
    ("answer", "goes_down"),
    [
        (Completed(0, b"1832\n", b""), True),
        (Completed(0, b"\n", b""), False),
        (Completed(1, b"", b"Failed to connect to bus"), False),
    ],
)
def test_whether_the_machine_goes_down(
    machine: Machine, tree: Path, monkeypatch: pytest.MonkeyPatch, answer: Completed, goes_down: bool
) -> None:
    """Where systemd has a job for shutdown.target; without systemd nobody is asked."""
    said = live(machine, monkeypatch, answer)
    assert not machine.is_going_down()
    assert said.asked == [()]
    (tree / "run/systemd/system").mkdir(parents=True)
    assert machine.is_going_down() is goes_down
    assert said.asked[1][:2] == ("systemctl", "show")


def test_a_reboot_of_ours_waits_for_the_signal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no longer than that; where it does not come, the machine should have gone."""
    clock = FakeClock()
    monkeypatch.setattr(System, "live", True)
    machine.system = machine.system._replace(clock=clock)
    monkeypatch.setattr(machine, "command", lambda _words: b"")
    clock.wakes = iter([lambda: None, terminate])
    with machine.stop.put_off():
        machine.ending(["reboot"], 60.0)
    assert clock.time == 2 * FOLLOW_SECONDS
    machine.stop.asked = False
    with pytest.raises(Exception, match="should have gone"):
        machine.ending(["reboot"], 60.0)


def test_who_waits_for_a_pass_has_not_begun(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's step that waits for its turn is left to the next boot."""

    @contextmanager
    def waiting(*_words: object, **_more: object) -> Iterator[None]:
        terminate()
        raise AssertionError("it has not ended")
        yield

    def ends(_number: int, _frame: object) -> NoReturn:
        raise Gone

    monkeypatch.setattr(runner.lock, "hold", waiting)
    before = signal.signal(signal.SIGTERM, ends)
    ran: List[str] = []
    try:
        assert states(system, plan(lambda _: ran.append("first"), ran, "users")) == {}
        monkeypatch.undo()
        assert states(system, plan(lambda _: ran.append("first"), ran, "users"))["first"] == "done"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ran == ["first", "second"]
