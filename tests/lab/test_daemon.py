"""The daemon in the foreground, on a scratch tree against a router on loopback."""

from __future__ import annotations

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
from support.running_daemon import CLOUD, until


def test_a_pass_at_start_then_it_stays(daemon: Any, servers: Any) -> None:
    """READY at once; then it applies, says so in STATUS, stays, and ends within a second of SIGTERM."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port)
    until(lambda: running.told("STATUS=instance"))
    assert running.heard[0] == "READY=1"
    assert running.hostname() == "web01" and len(router.acknowledged) == 1
    assert running.told("STATUS=instance") and running.process.poll() is None
    assert running.stop() < 1.0
    assert running.told("STOPPING=1")


def test_a_late_router_is_caught_within_a_second(daemon: Any, servers: Any) -> None:
    """A router that starts after the daemon is applied from within a second of appearing."""
    port, password_port = servers.free_port(), servers.free_port()
    running = daemon(port, password_port)
    time.sleep(2.0)
    servers.lab(CLOUD, port=port, password_port=password_port)
    assert until(lambda: running.hostname() == "web01") < 1.5  # a second, and this machine's own pass
    until(lambda: running.told("STATUS=instance"))


def test_sigterm_in_the_middle_of_a_read(daemon: Any, servers: Any) -> None:
    """While a silent router keeps it waiting, SIGTERM still ends it within a second."""
    port = servers.free_port()
    running = daemon(port, port)
    time.sleep(1.0)
    assert running.stop() < 1.0


def test_sigterm_while_a_router_drips(daemon: Any, servers: Any) -> None:
    """While a reply arrives at a byte now and then, SIGTERM ends it within a second."""
    slow = servers.peer(lambda connection, _request: servers.drip(connection, b"HTTP/1.1 200 OK\r\n" * 99))
    running = daemon(slow.port, slow.port)
    until(lambda: len(slow.requests) > 0)
    assert running.stop() < 1.0


@pytest.mark.parametrize("asked", range(1, 20, 3))
def test_sigterm_between_any_two_requests(daemon: Any, servers: Any, asked: int) -> None:
    """However far the reading of a slow router has come, SIGTERM ends it within a second."""
    router = servers.lab(CLOUD, latency=0.1)
    running = daemon(router.port, router.password_port, "poll: 0.1\n")
    until(lambda: len(router.requests) >= asked)
    assert running.stop() < 1.0


def test_sigterm_while_the_acknowledgement_hangs(daemon: Any, servers: Any, tree: Path) -> None:
    """The password is set and remembered then; a daemon that is started anew acknowledges it."""

    def behaviour(connection: socket.socket, request: bytes) -> None:
        if b"send_my_password" in request:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nEXAMPLE-first")
            connection.shutdown(socket.SHUT_WR)
        elif len(passwords.requests) < 3:
            connection.recv(1)  # until the other side goes away
        else:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nsaved_password")
            connection.shutdown(socket.SHUT_WR)

    passwords = servers.peer(behaviour)
    router = servers.lab(CLOUD)
    told = lambda: sum(b"saved_password" in request for request in passwords.requests)  # noqa: E731
    running = daemon(router.port, passwords.port)
    until(lambda: told() == 1)
    assert running.stop() < 1.0
    shadow = (tree / "etc/shadow").read_text()
    again = daemon(router.port, passwords.port)
    until(lambda: again.told("STATUS=instance"))
    assert told() == 2 and (tree / "etc/shadow").read_text() == shadow


def test_watchdog_hears_of_it_in_every_wait(daemon: Any, servers: Any) -> None:
    """Asked for a sign of life within a second it gives one each half, reading or waiting for the poll."""
    late = servers.free_port(), servers.free_port()
    running = daemon(*late, "", watchdog="1000000")
    assert until(lambda: (running.told("W"), running.heard.count("WATCHDOG=1"))[1] >= 4) > 1.5
    servers.lab(CLOUD, port=late[0], password_port=late[1])
    until(lambda: running.told("STATUS=instance"))
    before = running.heard.count("WATCHDOG=1")
    assert until(lambda: (running.told("W"), running.heard.count("WATCHDOG=1"))[1] >= before + 4) > 1.0


def test_nobody_is_told_where_nobody_watches(daemon: Any, servers: Any) -> None:
    """Without WATCHDOG_USEC there is no sign of life, and no wake-up for one."""
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port)
    until(lambda: running.told("STATUS=instance"))
    status = Path(f"/proc/{running.process.pid}/status")
    switches = lambda: [line for line in status.read_text().splitlines() if "ctxt_switches" in line]  # noqa: E731
    time.sleep(0.5)
    before = switches()
    time.sleep(1.5)
    assert switches()[0] == before[0] and not running.told("WATCHDOG")


def test_sigterm_while_another_pass_holds_the_lock(daemon: Any, servers: Any, tree: Path) -> None:
    """Waiting for its turn it still ends within a second; what it had to do is left to the next one."""
    router = servers.lab(CLOUD)
    (tree / "run/csagent").mkdir()
    with (tree / "run/csagent/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = daemon(router.port, router.password_port)
        until(lambda: len(router.requests) > 5)
        time.sleep(0.5)
        assert running.hostname() == "debian"
        assert running.stop() < 1.0


def test_apply_by_hand_beside_a_waiting_daemon(daemon: Any, servers: Any, tree: Path) -> None:
    """While the daemon waits for a router, a pass by hand from a drive does not wait for it."""
    from csagent.lab import drive

    daemon(servers.free_port(), servers.free_port())
    drive.build(str(tree / "d.iso"), drive.files_for(CLOUD))
    time.sleep(1.0)
    command = [sys.executable, "-m", "csagent", "--root", str(tree), "apply", "--drive", str(tree / "d.iso")]
    start = time.monotonic()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
    assert time.monotonic() - start < 5


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
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    until(lambda: len(router.acknowledged) == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "hostname applied" in err and "password applied" in err and "EXAMPLE-first" not in err


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
    router = servers.lab(CLOUD)
    running = daemon(router.port, router.password_port, "poll: 0\n")
    until(lambda: running.told("STATUS=instance"))
    router.latency = 2.0
    running.process.send_signal(signal.SIGHUP)
    time.sleep(delay)
    assert running.stop() < 1.5
