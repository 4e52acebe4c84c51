"""The daemon in the foreground, on a scratch tree against a router on loopback.

Where SIGTERM is to end it, what it waits for never comes, and it would not be ended by force either
(`support.running_daemon`): that it ends says that it does not wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from support.held_router import Held
from support.running_daemon import CLOUD, PATIENCE, until


def test_a_pass_at_start_then_it_stays(daemon: Any, servers: Any) -> None:
    """READY at once; then it applies, says so in STATUS, stays, and ends at SIGTERM."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port)
    until(lambda: running.told("STATUS=instance"))
    assert running.heard[0] == "READY=1"
    assert running.hostname() == "web01" and len(router.acknowledged) == 1
    assert running.told("STATUS=instance") and running.process.poll() is None
    running.stop()
    assert running.told("STOPPING=1")


def test_a_late_router_is_caught(daemon: Any, servers: Any) -> None:
    """A router that starts after the daemon, and after it was asked in vain, is applied from.

    How soon it is asked again: `test_pauses_are_short_early_and_longer_later` (tests/lab/test_router.py).
    """
    starting = servers.peer(lambda connection, _request: servers.reset(connection))
    running = daemon(starting.port, starting.port, "poll: 0\n")
    until(lambda: len(starting.requests) >= 5)
    assert running.hostname() == "debian"
    starting.stop()
    router = Held(CLOUD, port=starting.port, answers=99)
    servers.started(router)
    until(lambda: running.hostname() == "web01")
    until(lambda: running.told("STATUS=instance"))


def test_sigterm_in_the_middle_of_a_read(daemon: Any, servers: Any) -> None:
    """While a silent router keeps it waiting, SIGTERM still ends it."""
    silent = servers.peer(servers.silent)
    running = daemon(silent.port, silent.port)
    until(lambda: len(silent.requests) >= 2)
    running.stop()


def test_sigterm_while_nobody_listens(daemon: Any, servers: Any, tree: Path) -> None:
    """Between two attempts at a closed port, too, whenever it comes."""
    port = servers.free_port()
    running = daemon(port, port)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    until(lambda: children.read_text() != "")
    running.stop()


def test_sigterm_while_a_router_drips(daemon: Any, servers: Any) -> None:
    """While a reply arrives at a byte now and then, SIGTERM ends it."""
    slow = servers.peer(lambda connection, _request: servers.drip(connection, b"HTTP/1.1 200 OK\r\n" * 9999))
    running = daemon(slow.port, slow.port)
    until(lambda: len(slow.requests) > 0)
    running.stop()


@pytest.mark.parametrize("asked", range(1, 20, 3))
def test_sigterm_between_any_two_requests(daemon: Any, servers: Any, asked: int) -> None:
    """However far the reading has come when the router answers no more, SIGTERM ends it."""
    router = servers.started(Held(CLOUD, answers=asked - 1))
    running = daemon(router.port, router.password_port, "poll: 0.1\n")
    until(lambda: router.asked >= asked)
    running.stop()


def test_sigterm_while_the_acknowledgement_hangs(daemon: Any, servers: Any, tree: Path) -> None:
    """The password is set and remembered then; a daemon that is started anew acknowledges it."""

    def behaviour(connection: socket.socket, request: bytes) -> None:
        if b"send_my_password" in request:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nEXAMPLE-first")
            connection.shutdown(socket.SHUT_WR)
        elif b"saved_password" not in request:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nbad_request")
            connection.shutdown(socket.SHUT_WR)
        elif told() == 1:
            servers.silent(connection)
        else:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nsaved_password")
            connection.shutdown(socket.SHUT_WR)

    passwords = servers.peer(behaviour)
    router = servers.lab(CLOUD)
    told = lambda: sum(b"saved_password" in request for request in passwords.requests)  # noqa: E731
    running = daemon(router.port, passwords.port)
    until(lambda: told() == 1)
    running.stop()
    shadow = (tree / "etc/shadow").read_text()
    again = daemon(router.port, passwords.port)
    until(lambda: again.told("STATUS=instance"))
    assert told() == 2 and (tree / "etc/shadow").read_text() == shadow


def test_watchdog_hears_of_it_in_every_wait(daemon: Any, servers: Any) -> None:
    """Asked for a sign of life within a second it gives one each half, reading or waiting for the poll."""
    beats = lambda: (running.told("W"), running.heard.count("WATCHDOG=1"))[1]  # noqa: E731
    began = time.monotonic()
    silent = servers.peer(servers.silent)
    port = servers.free_port()
    running = daemon(silent.port, port, "poll: 0\n", watchdog="1000000")
    until(lambda: len(silent.requests) >= 2)
    reading = beats()
    until(lambda: beats() >= reading + 4)
    silent.stop()
    servers.lab(CLOUD, port=silent.port, password_port=port)
    until(lambda: running.told("STATUS=instance"))
    resting = beats()
    until(lambda: beats() >= resting + 4)
    assert beats() <= (time.monotonic() - began) / 0.5


def test_nobody_is_told_where_nobody_watches(daemon: Any, servers: Any) -> None:
    """Without WATCHDOG_USEC there is no sign of life, and no wake-up for one."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port)
    until(lambda: running.told("STATUS=instance"))
    status = Path(f"/proc/{running.process.pid}/status")

    def rests() -> bool:
        """Whether nothing wakes it for a while; it may have had something to do before."""
        before = status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0]
        time.sleep(1.5)
        return status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0] == before

    until(rests)
    assert not running.told("WATCHDOG")


def test_sigterm_while_another_pass_holds_the_lock(daemon: Any, servers: Any, tree: Path) -> None:
    """Waiting for its turn it still ends; what it had to do is left to the next one."""
    router = servers.lab(CLOUD)
    (tree / "run/csagent").mkdir()
    with (tree / "run/csagent/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        running = daemon(router.port, router.password_port)
        until(lambda: waiting_for(tree / "run/csagent/lock"))
        assert running.hostname() == "debian"
        running.stop()


def waiting_for(lock: Path) -> bool:
    """Whether somebody else has opened this file."""
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if path.parts[2] != str(os.getpid()) and os.readlink(path) == str(lock):
                return True
    return False


def test_apply_by_hand_beside_a_waiting_daemon(daemon: Any, servers: Any, tree: Path) -> None:
    """While the daemon waits for a router, a pass by hand from a drive does not wait for it."""
    from csagent.lab import drive

    silent = servers.peer(servers.silent)
    daemon(silent.port, silent.port)
    drive.build(str(tree / "d.iso"), drive.files_for(CLOUD))
    until(lambda: len(silent.requests) >= 2)
    command = [sys.executable, "-m", "csagent", "--root", str(tree), "apply", "--drive", str(tree / "d.iso")]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=600, check=False).returncode == 0


def test_reload_rereads_settings_and_runs_a_pass(daemon: Any, servers: Any, tree: Path) -> None:
    """SIGHUP: the settings are read again and a pass runs now; broken ones are reported only."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port, "poll: 0\nhostname: false\n")
    until(lambda: running.told("STATUS=instance"))
    assert running.hostname() == "debian"
    (tree / "settings.yaml").write_text("poll: 0\n")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.hostname() == "web01")
    (tree / "settings.yaml").write_text("pol: 0\n")
    router.change(hostname="web02")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.hostname() == "web02")
    running.stop()
    assert "old settings stay" in running.process.stderr.read()  # type: ignore[union-attr]


def test_the_poll_notices_a_change(daemon: Any, servers: Any) -> None:
    """With a short poll a new host name and a new password are applied while it runs."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port, "poll: 1\n")
    until(lambda: len(router.acknowledged) == 1)
    router.change(hostname="web02", password="EXAMPLE-second")
    until(lambda: running.hostname() == "web02" and len(router.acknowledged) == 2)


def test_without_systemd_it_just_runs(tree: Path, servers: Any) -> None:
    """Without NOTIFY_SOCKET it works in the foreground and logs decisions, no secrets, to standard error."""
    router = servers.lab(CLOUD)
    environment: Dict[str, str] = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    command = [sys.executable, "-m", "csagent", "--root", str(tree), "daemon"]
    command += ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
    log = tree / "standard-error"
    with log.open("w") as stream, subprocess.Popen(command, env=environment, stderr=stream) as process:
        try:
            until(lambda: "password applied" in log.read_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert "hostname applied" in log.read_text() and "EXAMPLE-first" not in log.read_text()
    assert len(router.acknowledged) == 1


def test_no_child_is_left(daemon: Any, servers: Any) -> None:
    """Between passes the daemon has no child, and its descriptors do not grow."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port, "poll: 0.3\n")
    asked = lambda: sum(request.what == "send_my_password" for request in router.requests)  # noqa: E731
    until(lambda: asked() >= 3)
    pid = running.process.pid
    before = len(os.listdir(f"/proc/{pid}/fd"))
    passes = asked()
    until(lambda: asked() >= passes + 4)
    until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())
    assert len(os.listdir(f"/proc/{pid}/fd")) <= before + 2


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.03])
def test_sigterm_right_after_a_reload(daemon: Any, servers: Any, delay: float) -> None:
    """The pass that has just been forked hears of it too."""
    router = servers.started(Held(CLOUD, answers=9999))
    running = daemon(router.port, router.password_port, "poll: 0\n")
    until(lambda: running.told("STATUS=instance"))
    router.hold()
    running.process.send_signal(signal.SIGHUP)
    time.sleep(delay)
    running.stop()
