from __future__ import annotations

import os
import pwd
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator

import pytest

from csagent.errors import JailError, JailTimeout
from csagent.sandbox import jail
from csagent.sandbox.child import Child
from csagent.sandbox.jail import MIB, Limits
from csagent.system.seams import Clock, System

SMALL = Limits(cpu=2, memory=96 * MIB, descriptors=16, processes=64, answer=64 * 1024)


def run(work: Callable[[], Any], timeout: float = 300.0, prepare: Callable[[], Any] = lambda: None) -> Any:
    identity = jail.unprivileged()
    return jail.run(jail.Job("test", System(), prepare, lambda _p, _say: work(), SMALL, identity), timeout)


def test_it_answers() -> None:
    """The result of the work comes back as JSON."""
    assert run(lambda: {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: bytearray(10**9), "memory"),
        (spin, "CPU time"),
        (lambda: "x" * 10**6, "answered more than"),
        (lambda: os._exit(0), "without an answer"),
        (lambda: os.abort(), "signal"),
        (lambda: object(), "TypeError"),
    ],
)
def test_what_it_must_not_do_ends_it(work: Callable[[], Any], words: str) -> None:
    """An exception, a memory or CPU hog, a flood, a crash: each is one JailError."""
    with pytest.raises(JailError, match=words):
        run(work)


def test_an_exceptions_text_does_not_leave() -> None:
    """What was being read may stand in an exception's text; only its class is told."""

    def work() -> None:
        raise ValueError("marker-EXAMPLE")

    with pytest.raises(JailError) as caught:
        run(work)
    assert "marker" not in str(caught.value)


def test_the_deadline_ends_it() -> None:
    """A child that does not answer is killed at its deadline."""
    start = time.monotonic()
    with pytest.raises(JailTimeout):
        run(lambda: time.sleep(3600), timeout=0.5)
    assert time.monotonic() - start < 300


def test_what_it_started_ends_with_it() -> None:
    """Its own children are gone when it is killed, and waited for, whatever process 1 is."""

    def work(_prepared: None, say: jail.Send) -> None:
        pid = os.fork()
        if pid:
            say({"pid": pid})
        time.sleep(3600)

    child = jail.start(jail.Job("test", System(), lambda: None, work, SMALL, jail.unprivileged()))
    pid = next(said(child))["pid"]
    assert os.path.exists(f"/proc/{pid}")
    child.kill()
    assert not os.path.exists(f"/proc/{pid}")


def test_what_it_leaves_behind_is_waited_for() -> None:
    """A child that ends by itself, as a reader does, whose broker ends after it."""

    def work() -> int:
        pid = os.fork()
        if not pid:
            os.closerange(3, 64)  # the answer's pipe among them, as a broker does
            time.sleep(60)
        return pid

    assert not os.path.exists(f"/proc/{run(work)}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children become somebody else")
def test_others_of_the_same_number_do_not_count() -> None:
    """256 threads of the same user, a container's say, leave a child its own processes, and no more.

    Where it inherits a limit that is theirs already, that is what it says.
    """
    # Nobody else's, nor that of this test in another container on the same kernel: it counts them together.
    identity = jail.Identity(*[random.randrange(20_000, 60_000)] * 2)
    reading, writing = os.pipe()
    others = os.fork()
    if not others:
        os.setresgid(*[identity.gid] * 3)
        os.setresuid(*[identity.uid] * 3)
        threading.stack_size(65536)
        for _ in range(256):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        os.write(writing, b"1")
        time.sleep(60)
        os._exit(0)

    def work() -> int:
        count = 0
        try:
            while count < 2000:
                if not os.fork():
                    os.closerange(3, 64)
                    time.sleep(60)
                count += 1
        except BlockingIOError:
            pass
        return count

    try:
        assert os.read(reading, 1) == b"1"
        limits = SMALL._replace(cpu=60)
        job = jail.Job("test", System(), lambda: None, lambda _prepared, _say: work(), limits, identity)
        assert SMALL.processes <= jail.run(job, 300.0) <= 512

        def inherit() -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (200, 200))

        job = job._replace(prepare=inherit)
        with pytest.raises(JailError, match=r"room for 200 processes .* give it the account csagent"):
            jail.run(job, 300.0)
        assert jail.run(job._replace(limits=limits._replace(processes=0)), 300.0) == 0
    finally:
        os.kill(others, signal.SIGKILL)
        os.waitpid(others, 0)
        os.close(reading)
        os.close(writing)
    limits = SMALL._replace(processes=0)
    job = jail.Job("test", System(), lambda: None, lambda _p, _say: work(), limits, identity)
    assert jail.run(job) == 0


def said(child: Any) -> Iterator[Any]:
    """What it says ahead of its end, as it comes."""
    while not child.finished:
        yield from child.collect()
        time.sleep(0.01)


def state_of(pid: int) -> str:
    """R, S, Z ...; a zombie is dead, and waits for whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_descriptors_do_not_leak_into_it() -> None:
    """It inherits nothing but its pipe, and standard input and output lead nowhere."""
    reading, writing = os.pipe()
    try:
        assert run(lambda: len(os.listdir("/proc/self/fd"))) <= 5
        assert run(lambda: os.readlink("/proc/self/fd/1")) == "/dev/null"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to give up")
def test_it_has_no_rights() -> None:
    """Not root, no groups, no capabilities, none to be had, no core, no files to write."""

    def work() -> Any:
        with open("/proc/self/status") as stream:
            status = dict(line.split(":\t", 1) for line in stream.read().splitlines() if ":\t" in line)
        try:
            open("/etc/shadow").close()
            shadow = "open"
        except PermissionError:
            shadow = "denied"
        return [
            os.getresuid()[0] != 0,
            os.getgroups(),
            status["CapEff"],
            status["CapPrm"],
            status["NoNewPrivs"],
            shadow,
        ]

    zero = "0" * 16
    assert run(work) == [True, [], zero, zero, "1", "denied"]


def test_it_writes_no_file(tmp_path: Any) -> None:
    """The file size limit holds even where the directory would let it write."""
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:3]:
        if parent.stat().st_uid == os.getuid() and parent != parent.parent and str(parent) != "/tmp":
            parent.chmod(0o755)

    def work() -> str:
        try:
            with open(tmp_path / "x", "wb") as stream:
                stream.write(b"x")
        except OSError as error:
            return type(error).__name__
        return "written"

    try:
        outcome = run(work)
    except JailError as error:
        outcome = str(error)
    assert outcome != "written"


def test_what_it_says_ahead_counts() -> None:
    """Documents said before the end can be read while it runs."""
    system = System()

    def work(_prepared: None, say: jail.Send) -> None:
        say({"so_far": 1})
        time.sleep(3600)

    child = jail.start(jail.Job("test", system, lambda: None, work, SMALL, jail.unprivileged()))
    assert next(said(child)) == {"so_far": 1}
    child.kill()
    with pytest.raises(JailError):
        child.result()


BOMB = """
import os, sys, time
from csagent.sandbox import jail
from csagent.sandbox.child import Child
from csagent.errors import JailError
from csagent.system.seams import System
bomb = {
    "objects": lambda: b"[" + b"{}," * 7_000_000 + b"{}]\\n",
    "arrays": lambda: b"[" * 20_000_000 + b"\\n",
    "digits": lambda: b"1" * 12_000_000 + b"\\n",
    "lines": lambda: b"100\\n" * 5_000_000,
    "text": lambda: b'"' + b"x" * 12_000_000 + b'"\\n',
    "empty lines": lambda: b"\\n" * 15_000_000,
}[sys.argv[1]]

def work(_prepared, _say):
    text = bomb()
    out = next(fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}"))
    while text:
        text = text[os.write(out, text):]
    os._exit(0)

try:
    jail.run(jail.Job("bomb", System(), lambda: None, work, jail.READER, jail.unprivileged()), 120.0)
except JailError as error:
    print(error)
# Not getrusage: what it tells starts with the peak of the process that has started this one.
with open("/proc/self/status") as stream:
    peak = next(line.split()[1] for line in stream if line.startswith("VmHWM"))
print(peak, time.process_time())
"""


@pytest.mark.parametrize("kind", ["objects", "arrays", "digits", "lines", "text", "empty lines"])
def test_what_a_child_says_costs_its_parent_little(kind: str) -> None:
    """One that was taken over cannot make root's process large, or keep it busy, by what it answers."""
    done = subprocess.run(
        [sys.executable, "-c", BOMB, kind], capture_output=True, text=True, timeout=600, check=True
    )
    said, figures = done.stdout.strip().rsplit("\n", 1)
    peak, seconds = figures.split()
    assert "bomb: " in said and int(peak) <= 100 * 1024 and float(seconds) < 5.0, done.stdout


def test_its_time_begins_when_it_is_ready() -> None:
    """Slow libraries do not count: only the work has the time-out."""
    assert run(lambda: "done", timeout=0.3, prepare=lambda: time.sleep(0.6)) == "done"


def test_it_knows_how_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its preparation took per second of processor time is on its clock; its parent sees it, too."""
    monkeypatch.setattr("csagent.system.slowness.DISK_SECONDS", 0.0)
    system = System(clock=Clock())
    job = jail.Job(
        "test",
        system,
        lambda: time.sleep(0.5),
        lambda _prepared, say: system.clock.slowness,
        SMALL,
        jail.unprivileged(),
    )
    child = jail.start(job)
    assert list(said(child)) == [{"done": child.result()}]
    assert child.ready and 2.0 < child.result() <= 30.0 and child.slowness > 2.0
    assert system.clock.slowness == 1.0


def test_a_child_that_was_slow_to_prepare_has_more_time_for_its_work() -> None:
    """As many times as its preparation took longer; its peers are as far away as for a fast one."""
    reading, writing = os.pipe()
    os.close(writing)
    child = Child(os.getpid(), reading, "a child", 100)
    try:
        now = time.monotonic()
        assert 5.0 <= child.time_to_work(5.0).ends - now < 20.0
        child.slowness = 20.0
        assert child.time_to_work(5.0).ends - now >= 100.0
    finally:
        os.close(reading)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children become somebody else")
@pytest.mark.parametrize(
    ("uid", "shell", "used"), [(104, "/usr/sbin/nologin", True), (1500, "/bin/bash", False)]
)
def test_a_persons_account_is_not_borrowed(
    monkeypatch: pytest.MonkeyPatch, uid: int, shell: str, used: bool
) -> None:
    """A person who happens to be called csagent does not become the parsers' user; `discover` says so."""
    entries = {
        "csagent": pwd.struct_passwd(("csagent", "x", uid, uid, "", "/", shell)),
        "nobody": pwd.struct_passwd(("nobody", "x", 65534, 65534, "", "/", shell)),
    }
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    assert jail.unprivileged() == (jail.Identity(uid, uid) if used else jail.Identity(65534, 65534))
    assert ("is not used" in jail.note_on_account()) is not used


def test_who_only_looks_starved_has_four_times_its_time() -> None:
    """A child in a stranger's hands may use a little processor time for ever; the pass goes on."""

    def dribble() -> None:
        while True:
            end = time.process_time() + 0.001
            while time.process_time() < end:
                pass
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(JailTimeout):
        run(dribble, timeout=0.5)
    assert 1.9 < time.monotonic() - start < 300
