"""What wakes the daemon: real inotify, real netlink in a namespace of its own, and their absence."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from support.kernel_news import told

from csagent.daemon import watch
from csagent.discovery import finder
from csagent.log import Log
from csagent.system import events

PATTERNS = (
    "/var/lib/dhcp/*.leases",
    "/run/systemd/netif/leases/*",
    "/var/lib/connman/*/settings",
)


NOTHING = {
    "watching": True, "patterns": [], "labels": [], "network": True, "account": None, "cloud_init": None,
}  # fmt: skip
LEASES = {**NOTHING, "patterns": ["/var/lib/dhcp/*.leases"]}


@pytest.fixture
def leases(tmp_path: Path) -> Any:
    (tmp_path / "var/lib/dhcp").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    files = events.Files(PATTERNS, str(tmp_path))
    yield files
    files.close()


def test_a_lease_that_is_written(leases: events.Files, tmp_path: Path) -> None:
    """Appended to, renamed into place, removed: each is news; another file in the directory is none."""
    where = tmp_path / "var/lib/dhcp"
    (where / "other.txt").write_text("x")
    assert not told(leases, 0.3)
    with open(where / "dhclient.eth0.leases", "a") as stream:
        assert not told(leases, 0.3), "nothing is in it yet"
        stream.write("lease {}\n")
    assert told(leases)
    (where / "new").write_text("lease {}\n")
    os.replace(where / "new", where / "dhclient.eth0.leases")
    assert told(leases)
    (where / "dhclient.eth0.leases").unlink()
    assert told(leases)
    assert not told(leases, 0.3)


def test_a_directory_that_comes_later(leases: events.Files, tmp_path: Path) -> None:
    """networkd makes its directory when it starts: its leases are watched from then on, and every time."""
    where = tmp_path / "run/systemd/netif/leases"
    for _ in range(2):
        where.mkdir(parents=True)
        told(leases, 0.5)
        (where / "2").write_text("ADDRESS=10.1.1.2\n")
        assert told(leases)
        for path in (where / "2", where, where.parent, where.parent.parent):
            path.unlink() if path.is_file() else path.rmdir()
            told(leases, 0.2)


def test_a_directory_named_by_a_pattern(leases: events.Files, tmp_path: Path) -> None:
    """connman has a directory for each service."""
    where = tmp_path / "var/lib/connman/ethernet_02000a010101_cable"
    where.mkdir(parents=True)
    told(leases, 0.5)
    (where / "settings").write_text("[x]\n")
    assert told(leases)


def test_events_that_were_lost(leases: events.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that ran over says so; whoever watches opens it anew and counts it as news."""
    lost = events.struct.pack("=iIII", -1, events.IN_Q_OVERFLOW, 0, 0)
    monkeypatch.setattr(events.os, "read", lambda *_args: lost)
    with pytest.raises(OSError, match="lost"):
        leases.news()


def test_every_client_is_watched() -> None:
    """The patterns are those of the lease files of every DHCP client."""
    patterns = finder.lease_patterns()
    for one in ("/run/systemd/netif/leases/*", "/var/lib/dhcpcd/*.lease", "/var/lib/dhcp/*.leases"):
        assert one in patterns, one


IN_A_NAMESPACE = """
import subprocess, sys
from csagent.system.events import Network
sys.path.insert(0, %r)
from support.kernel_news import told
def ip(*words): subprocess.run(["ip", *words], check=True)
network = Network()
print("quiet", told(network, 0.3))
ip("link", "add", "eth7", "type", "veth", "peer", "name", "peer7"); print("added", told(network))
ip("link", "set", "eth7", "up"); told(network, 0.5)
ip("addr", "add", "10.9.9.2/24", "dev", "eth7"); print("address", told(network))
ip("route", "add", "default", "via", "10.9.9.1"); print("route", told(network))
ip("addr", "flush", "dev", "eth7"); print("flushed", told(network))
ip("link", "del", "eth7"); print("removed", told(network))
print("quiet", told(network, 0.3))
"""


@pytest.mark.root
def test_the_network() -> None:
    """A NIC, an address or a route that comes or goes is news."""
    code = IN_A_NAMESPACE % str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    lines: List[str] = done.stdout.split("\n")
    expected = ["quiet False", "added True", "address True", "route True", "flushed True", "removed True"]
    assert (lines[:-1], done.stderr) == ([*expected, "quiet False"], "")


@pytest.mark.root
def test_a_pass_that_waits_looks_as_soon_as_there_is_an_address() -> None:
    """The next look is due half a second after the last; once the kernel tells of an address, at once."""
    script = """
import select, subprocess, time
from csagent.settings import Settings
from csagent.sources import observe
from csagent.sources.request import PassRequest
from csagent.system.seams import System
subprocess.run(["ip", "link", "add", "dummy7", "type", "veth"], check=True)
request = PassRequest(System.at("/"), Settings())
changes = observe._changes(request)
assert changes.changed() == [], "not due"
subprocess.run(["ip", "addr", "add", "192.0.2.7/24", "dev", "dummy7"], check=True)
assert select.select(changes.sources, [], [], 20.0)[0]
assert changes.told(changes.sources) == ["network"]
changes.hurry(observe.SOON)
assert changes.next_look - time.monotonic() <= observe.SOON
time.sleep(observe.SOON + 0.01)
assert changes.changed() == ["network"]
changes.close()

observer = observe._Observer(request)
slept = []
observe.select.select = lambda _reading, _writing, _failing, seconds: slept.append(seconds) or ([], [], [])
observer.changes.next_look = time.monotonic() - 1.0
observer._wait()
assert slept == [0.0], "a look that was overdue had to wait for something else"
"""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a network namespace")
    words = ["unshare", "--net", sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_a_source_that_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost events are one warning and count as news; the next event works."""
    made: List[int] = []

    class Broken:
        name = "network"

        def __init__(self) -> None:
            made.append(1)
            self.reading, self.writing = os.pipe()
            os.write(self.writing, b"x")

        def fileno(self) -> int:
            return self.reading

        def news(self) -> bool:
            raise OSError(errno.ENOBUFS, "No buffer space available")

        def close(self) -> None:
            os.close(self.reading)
            os.close(self.writing)

    monkeypatch.setattr(watch, "Network", Broken)
    all_of_it = watch.Watch(Log(0))
    all_of_it.of(LEASES)
    try:
        ready = select.select(all_of_it.sources, [], [], 1.0)[0]
        assert all_of_it.news(ready) == ["network"] and len(made) == 2
        assert len(all_of_it.sources) == 3 and all_of_it.next_look == float("inf")
    finally:
        all_of_it.close()


def test_nics_are_watched_for_a_drive_alone() -> None:
    """Where the router is no source there are no leases to watch: a NIC may come that the drive names."""
    all_of_it = watch.Watch(Log(0))
    all_of_it.of(NOTHING)
    try:
        assert sorted(source.name for source in all_of_it.sources) == ["clock", "network"]
    finally:
        all_of_it.close()


@pytest.mark.parametrize("inotify", [True, False])
def test_an_account_that_is_made_before_it_is_listened_for(
    inotify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass that missed it says so, and then listening begins: what happened in between is news, once."""

    def fail(*_args: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    if not inotify:
        monkeypatch.setattr(watch, "Account", fail)
        monkeypatch.setattr(watch, "LOOK_WITHOUT_EVENTS", 0.0)
    all_of_it = watch.Watch(Log(0))
    world = {**NOTHING, "network": False, "account": "root"}
    all_of_it.of(world)
    try:
        assert all_of_it.news([]) == ["account"]
        all_of_it.of(world)
        assert all_of_it.news([]) == []
    finally:
        all_of_it.close()


def test_a_tree_is_not_watched() -> None:
    """What happens on this machine says nothing about a tree."""
    all_of_it = watch.Watch(Log(0))
    all_of_it.of({**NOTHING, "network": False, "watching": False})
    assert all_of_it.sources == [] and all_of_it.next_look == float("inf")


def test_the_wall_clock_is_armed() -> None:
    """While nobody sets the clock the timer stays silent (that it is told of a step, the VM test shows)."""
    clock = events.WallClock()
    try:
        assert not told(clock, 0.2) and not clock.news()
    finally:
        clock.close()


def test_without_inotify_the_slow_look_remains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the kernel tells nothing, lease files are looked at every few seconds."""

    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(watch, "Files", fail)
    monkeypatch.setattr(watch, "LOOK_WITHOUT_EVENTS", 0.0)
    all_of_it = watch.Watch(Log(0))
    accounts, ends = tmp_path / "passwd", tmp_path / "result.json"
    monkeypatch.setattr(watch, "Account", fail)
    monkeypatch.setattr(watch, "CloudInit", fail)
    monkeypatch.setattr(watch, "has_account", lambda account: events.has_account(account, str(accounts)))
    others = {"account": "debian", "cloud_init": str(ends)}
    all_of_it.of({**NOTHING, "patterns": [f"{tmp_path}/*.leases"], **others})
    try:
        assert all_of_it.news([]) == []
        (tmp_path / "a.leases").write_text("x")
        assert all_of_it.news([]) == ["lease"]
        accounts.write_text("debian2:x:1000:1000::/home/debian2:/bin/sh\n")
        assert all_of_it.news([]) == []
        accounts.write_text("debian:x:1000:1000::/home/debian:/bin/sh\n")
        assert all_of_it.news([]) == ["account"]
        ends.write_text("{}")
        assert all_of_it.news([]) == ["cloud-init"]
        assert all_of_it.news([]) == []
    finally:
        all_of_it.close()


def test_a_source_that_does_nothing_but_fail_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened three times in all; the slow look takes its place."""
    made: List[int] = []

    class Broken(events.WallClock):
        name = "network"

        def __init__(self) -> None:
            made.append(1)
            super().__init__()

        def news(self) -> bool:
            raise UnicodeDecodeError("utf-8", b"", 0, 1, "EXAMPLE")

    monkeypatch.setattr(watch, "Network", Broken)
    all_of_it = watch.Watch(Log(-1))
    all_of_it.of(LEASES)
    try:
        for _ in range(10):
            broken = [source for source in all_of_it.sources if isinstance(source, Broken)]
            assert all_of_it.news(broken) == (["network"] if broken else [])
        assert len(made) == 3 and all_of_it.next_look < float("inf")
    finally:
        all_of_it.close()
