"""Whole or doubtful, from the wire or the drive to the exit code: what may be cut takes nothing away."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from support.command_line import Done, Guest, data, make_drive, places
from support.replace_fields import replace
from support.samples import CLOUD, make_key

from csagent.lab.router import LabRouter
from csagent.validation import SSH_KEYS_LIMIT

FIRST, SECOND, OWN = make_key(1), make_key(2), make_key(9, "owner")
KEYS_PATH = "/public-keys"
KEYS_FILE = "cloudstack/metadata/public-keys.txt"
WHOLE = f"{FIRST}\n{SECOND}".encode()

CUT: Dict[str, Tuple[bytes, str]] = {
    "the second line cut in its midst": (WHOLE[:-40], "line 2: "),
    "a second line that is no key": (f"{FIRST}\ngarbage EXAMPLE\n".encode(), 'line 2: "garbage EXAMPLE"'),
    "a line in Latin-1": (f"{FIRST}\n{make_key(3)} caf".encode() + b"\xe9\n", "line 2: not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + f"{SECOND}\n{FIRST}\n".encode(), "line 1: a byte order mark"),
    "a NUL and an escape": (f"{FIRST}\n\x00\n{make_key(3)} \x1b[2J\n".encode(), "line 2: "),
    "HTML behind a key": (f"{FIRST}\n<html>EXAMPLE\n".encode(), "line 2: HTML"),
    "more than are taken": (
        "\n".join([FIRST, *(make_key(10 + number) for number in range(SSH_KEYS_LIMIT))]).encode(),
        "line 1001: more than 1000 keys",
    ),
}


class Cutting(LabRouter):
    """Gives what it is told for public-keys; `close` ends that body by closing the connection."""

    keys: Optional[bytes] = None
    close = False

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        status, body = super().page(path, source)
        return (status, self.keys) if self.keys is not None and path.endswith(KEYS_PATH) else (status, body)


@pytest.fixture
def guest(tree: Path) -> Guest:
    return Guest(tree)


@pytest.fixture
def cutting() -> Iterator[Cutting]:
    with Cutting(replace(CLOUD, password=None)) as lab:
        yield lab


def channels(cutting: Cutting, directory: Path) -> Dict[str, Callable[[bytes], List[str]]]:
    """By channel, the words of the command line that lead to a body of public keys."""

    def router(keys: bytes) -> List[str]:
        cutting.keys = keys
        return places(cutting)

    def drive(keys: bytes) -> List[str]:
        cloud = replace(CLOUD, password=None)
        image = make_drive(
            directory / "d.iso", cloud, files={KEYS_FILE: keys}, without=("openstack/latest/meta_data.json",)
        )
        return ["--drive", str(image)]

    return {"router": router, "drive": drive}


def apply(guest: Guest, words: List[str], code: int) -> Done:
    done = guest.run("-v", "apply", "--json", *words)
    assert done.code == code, done
    return done


@pytest.mark.parametrize("channel", ["router", "drive"])
@pytest.mark.parametrize("case", CUT)
def test_a_cut_set_of_keys_revokes_nothing(
    guest: Guest, cutting: Cutting, tmp_path: Path, channel: str, case: str
) -> None:
    """Every key that was there stays, and status, plan, doctor, fetch and -v name the line; exit code 3."""
    offer = channels(cutting, tmp_path)[channel]
    body, told = CUT[case]
    apply(guest, offer(WHOLE), 0)
    with (guest.root / "root/.ssh/authorized_keys").open("a") as stream:
        stream.write(OWN + "\n")

    words = offer(body)
    planned = guest.run("plan", "--json", *words).json["actions"]
    (action,) = [one for one in planned if one["datum"] == "ssh_keys"]
    assert told in action["reason"] and action["wrong"] is True and "nothing is revoked" in action["reason"]
    assert not [line for line in action["diff"] if line.startswith("-ssh")]

    done = apply(guest, words, 3)
    entry = done.json["data"]["ssh_keys"]
    assert told in entry["reason"] and entry["wrong"] is True
    assert f"csagent: ssh_keys: {entry['reason']}" in done.err
    assert "ssh_keys doubtful: " in done.err and told in done.err.split("ssh_keys doubtful: ")[1]
    assert {name: state for name, state in data(done).items() if name != "ssh_keys"} == {
        "hostname": "unchanged",
        "password": "absent",
        "user_data": "unchanged",
    }
    for key in (FIRST, SECOND, OWN):
        assert key in guest.authorized()

    plain = " ".join(guest.run("status").out.split())
    assert told in plain
    assert told in " ".join(guest.run("-v", "fetch", *words).out.split())
    doctor = guest.run("doctor", "--json", *words).json
    (finding,) = [one for one in doctor["findings"] if one["saw"].startswith("ssh_keys: ")]
    assert finding["state"] == "warning" and told in finding["means"] and finding["advice"]

    # Told again, though nothing changes; and mended as soon as the set is whole.
    again = apply(guest, words, 3)
    assert again.json["data"]["ssh_keys"]["state"] == "unchanged"
    apply(guest, offer(FIRST.encode()), 0)
    assert FIRST in guest.authorized() and OWN in guest.authorized() and SECOND not in guest.authorized()


def test_a_body_that_only_the_close_ends(guest: Guest, servers: Any) -> None:
    """Closed behind the first line, without a length: the second key stays."""
    lab = servers.lab(replace(CLOUD, password=None))
    apply(guest, places(lab), 0)

    def behaviour(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        status, body = lab.page(path, "127.0.0.1")
        head = b"HTTP/1.1 %d X\r\n" % status
        if path.endswith(KEYS_PATH):
            connection.sendall(head + b"Connection: close\r\n\r\n" + FIRST.encode() + b"\n")
            connection.shutdown(socket.SHUT_RDWR)
            return
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    peer = servers.peer(behaviour)
    words = ["--router", f"127.0.0.1:{peer.port}", "--password-port", str(lab.password_port)]
    done = apply(guest, words, 3)
    assert "sent without a length" in done.json["data"]["ssh_keys"]["reason"]
    assert FIRST in guest.authorized() and SECOND in guest.authorized()


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "unknown"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "unknown"),
        (b"", "unknown"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "refused"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html>EXAMPLE", "refused"),
    ],
)
def test_refused_is_what_was_read(guest: Guest, servers: Any, reply: bytes, state: str) -> None:
    """Where nobody answered for the keys they are unknown, and the router is not `ok`; both are told."""
    lab = servers.lab(replace(CLOUD, password=None))

    def behaviour(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        status, body = lab.page(path, "127.0.0.1")
        if path.endswith(KEYS_PATH):
            if reply:
                connection.sendall(reply)
            else:
                servers.reset(connection)
            return
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    peer = servers.peer(behaviour)
    words = ["--router", f"127.0.0.1:{peer.port}", "--password-port", str(lab.password_port), "--wait", "120"]
    done = apply(guest, words, 3)
    states = data(done)
    assert (states["ssh_keys"], states["hostname"]) == (state, "applied")
    (place,) = [one for one in done.json["places"] if one["place"].startswith("router ")]
    assert place["outcome"] == ("partial" if state == "unknown" else "ok")
    assert not (guest.root / "root/.ssh").exists()


class Rewritten(LabRouter):
    """Truncates a file and writes it while it is read, as CloudStack's own does at each deployment."""

    def start(self) -> None:
        self.asked: Dict[str, int] = {}
        super().start()

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        status, body = super().page(path, source)
        self.asked[path] = self.asked.get(path, 0) + 1
        return (
            (status, b"") if self.asked[path] == 1 and not path.endswith("/instance-id") else (status, body)
        )


def test_a_first_boot_while_the_router_writes(guest: Guest) -> None:
    """Every file is empty at the first look: all is there after one pass, exit code 0."""
    with Rewritten(CLOUD) as lab:
        lab.change(hostname="web01")  # the files are of this very moment
        done = apply(guest, places(lab), 0)
    assert set(data(done).values()) == {"applied"}
    assert FIRST in guest.authorized() and SECOND in guest.authorized()
