"""Every way in which a router can be hostile, on each port, through the whole agent.

Each case is one `csagent apply` with its own scratch tree and its own servers, measured: when it ended,
what its largest process held in memory, what it changed, and what it says about the hostile place. The
good half of the same router is applied all the same.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import pytest
from support.costs import PEAK_LIMIT, Measured, csagent
from support.peers import reset
from support.replace_fields import replace
from support.samples import INSTANCE, make_key, make_tree

from csagent.apply import libcrypt
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.model import Candidate, Platform, Secret
from csagent.sources.router import client
from csagent.system.seams import System

PASSWORD = "EXAMPLE-good-1"
MARKER = "EXAMPLE-marker-hostile"
EVIL_KEY = make_key(66, "evil@example")
CLOUD = Cloud(instance_id=INSTANCE, hostname="web01", ssh_keys=(make_key(1),), password=PASSWORD)
WAIT = 8.0  # seconds; a pass that has asked nobody by then would be no test
ACKNOWLEDGING = 6.0  # seconds that the acknowledgement may take (csagent.sources.acknowledge)
SLACK = 300.0  # seconds beyond them, for a machine that has eight of these passes to run and more besides
AT_ONCE = 8  # most of the time they wait
HOUR = 3600.0

# A single reply has an hour in place of its ten seconds: only the end of the whole wait is left to end it.
PATIENT = f"""
from csagent.sources import observe
from csagent.sources.router import http, password_protocol
observe.SHORTEST = {WAIT}
http.REQUEST_SECONDS = password_protocol.ASK_SECONDS = {HOUR}
"""

METADATA = {
    "/latest/meta-data/": b"instance-id\nlocal-hostname\npublic-keys\nuser-data\n",
    "/latest/meta-data/instance-id": INSTANCE.encode(),
    "/latest/meta-data/local-hostname": MARKER.lower().encode(),
    "/latest/meta-data/public-keys": EVIL_KEY.encode(),
    "/latest/user-data": b"#!/bin/sh\n" + MARKER.encode(),
}
BOMB = gzip.compress(b"0" * (100 << 20), 9)
MIB = b"x" * (1 << 20)

Behaviour = Callable[[socket.socket, bytes], None]


class Peer:
    """A TCP server that reads one request a connection and then does what a function says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: List[bytes] = []
        self.over = threading.Event()
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.over.is_set():
                connection.close()
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(HOUR)
            while not self.over.is_set():
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    request += piece
                self.requests.append(request)
                self._behaviour(connection, request)
                if b"Connection: close" in request:
                    return

    def stop(self) -> None:
        """End it; a handler ends with its connection, which csagent has closed by then."""
        self.over.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass  # wakes accept()
        self._thread.join(5)
        self._listener.close()


# --- how a server can be hostile: what it sends in place of, or around, a body that would be believed ---

OK = b"HTTP/1.1 200 OK\r\n"


def drip(connection: socket.socket, data: bytes) -> None:
    """One byte a second, again and again, until the other side has had enough."""
    while True:
        for position in range(len(data)):
            connection.sendall(data[position : position + 1])
            time.sleep(1)


def silent(connection: socket.socket, _body: bytes) -> None:
    """Nothing, until the other side has had enough."""
    while connection.recv(4096):
        pass


def flood(connection: socket.socket, data: bytes) -> None:
    """The same again and again, until the other side has had enough."""
    while True:
        connection.sendall(data)


def said(*pieces: bytes) -> Behaviour:
    """Send this, `BODY` replaced, and close."""

    def behaviour(connection: socket.socket, body: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece.replace(b"BODY", body))
        connection.shutdown(socket.SHUT_WR)
        connection.close()

    return behaviour


def then(act: Callable[..., None], data: bytes, *pieces: bytes) -> Behaviour:
    """Send the pieces, `BODY` replaced, then drip or flood."""

    def behaviour(connection: socket.socket, body: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece.replace(b"BODY", body))
        act(connection, data)

    return behaviour


def and_reset(*pieces: bytes) -> Behaviour:
    """Send the pieces, `BODY` replaced, then reset."""

    def behaviour(connection: socket.socket, body: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece.replace(b"BODY", body))
        reset(connection)

    return behaviour


def status(code: int, *headers: bytes) -> Behaviour:
    """Another status than 200, around a body that would be believed."""
    head = b"HTTP/1.1 %d Something\r\n" % code + b"".join(header + b"\r\n" for header in headers)
    return said(head + b"Connection: close\r\n\r\nBODY")


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LATE = "no answer|in time|stopped"
LONG = "more than|without an end|too many|past every limit|not an HTTP"
CUT = "cut short|shorter or longer|chunks make no sense|reset|in the middle|transfer encoding|piece"

HOSTILE: Dict[str, "tuple[Behaviour, str]"] = {
    "silent": (silent, LATE),
    "a byte a second, in the status line": (then(drip, OK * 10), LATE),
    "a byte a second, in the headers": (then(drip, b"A: b\r\n" * 100, OK), LATE),
    "a byte a second, in the body": (then(drip, b"x" * 100, OK + b"\r\n"), LATE),
    "endless body": (then(flood, MIB, OK + b"\r\n"), LONG),
    "endless lines": (then(flood, b"a\n" * 65536, OK + b"\r\n"), LONG),
    "endless headers": (then(flood, b"A: b\r\n" * 1000, OK), LONG),
    "one endless header": (then(flood, MIB, OK + b"A: "), LONG),
    "endless status line": (then(flood, MIB, b"HTTP/1.1 200 "), LONG),
    "200 headers": (said(OK + b"A: b\r\n" * 200 + b"\r\nBODY"), f"{LONG}|{CUT}|^$"),
    "endless 1xx": (then(flood, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), f"{LONG}|HTTP 100"),
    "endless 103 with headers": (
        then(flood, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
        f"{LONG}|HTTP 103",
    ),
    "truncated in the headers": (said(OK + b"Content-Length: 3"), "cut short"),
    "truncated in the body": (said(OK + b"Content-Length: 400\r\n\r\nBODY"), CUT),
    "closed at once": (said(b""), "closed without a reply|again and again"),
    "reset at once": (and_reset(), "reset|closed"),
    "reset in the headers": (and_reset(OK + b"Content-Le"), "reset|cut short|closed"),
    "reset in the body": (and_reset(OK + b"Content-Length: 400\r\n\r\nBODY"), CUT),
    "reset where the body would end": (and_reset(OK + b"\r\nBODY"), CUT),
    "chunk size that is no number": (said(CHUNKED + b"zz\r\nBODY\r\n0\r\n\r\n"), CUT),
    "chunk size below zero": (said(CHUNKED + b"-1\r\nBODY\r\n0\r\n\r\n"), CUT),
    "chunk longer than what comes": (said(CHUNKED + b"fff\r\nBODY"), CUT),
    "chunks without an end": (said(CHUNKED + b"1\r\nx\r\n"), CUT),
    "endless chunk size": (then(flood, b"0" * 65536, CHUNKED), f"{LONG}|{CUT}"),
    "endless small chunks": (then(flood, b"1\r\nx\r\n" * 1000, CHUNKED), f"{LONG}|{CUT}"),
    "endless trailers": (then(flood, b"A: b\r\n" * 1000, CHUNKED + b"0\r\n"), f"{LONG}|{CUT}"),
    "two lengths": (said(OK + b"Content-Length: 3\r\nContent-Length: 36\r\n\r\nBODY"), "Content-Length"),
    "length below zero": (said(OK + b"Content-Length: -1\r\n\r\nBODY"), "Content-Length"),
    "length of 40 digits": (said(OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nBODY"), "Content-Length"),
    "gzip bomb": (
        said(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "compressed|more than",
    ),
    "gzip bomb as a transfer encoding": (
        said(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n" % len(BOMB) + BOMB + b"\r\n0\r\n\r\n"),
        "transfer encoding|more than",
    ),
    "redirect to a good one": (status(302, b"Location: http://127.0.0.1:GOOD/"), "redirect"),
    "redirect to itself": (status(307, b"Location: /latest/meta-data/instance-id"), "redirect"),
    "redirect to a file": (status(301, b"Location: file:///etc/shadow"), "redirect"),
    "endless redirect page": (
        then(flood, MIB, b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"),
        f"redirect|{LONG}",
    ),
    "401": (status(401, b'WWW-Authenticate: Basic realm="x"'), "HTTP 401"),
    "403": (status(403), "HTTP 403"),
    "407": (status(407, b"Proxy-Authenticate: Basic"), "HTTP 407"),
    "500": (status(500), "HTTP 500"),
    "503": (status(503, b"Retry-After: 100000"), "HTTP 503"),
    "HTML": (said(OK + b"\r\n<!DOCTYPE html><title>Log in</title><p>BODY"), "HTML"),
    "a page as text": (said(OK + b"Content-Type: text/html\r\n\r\n  <html>\n<p>BODY"), "HTML|several lines"),
    "a megabyte": (said(OK + b"Content-Length: %d\r\n\r\n" % len(MIB) + MIB), "more than|longer than"),
    "garbage": (said(bytes(range(256)) * 64), ""),
    "NUL bytes": (said(b"\0" * 5000), ""),
    "another protocol": (said(b"SSH-2.0-OpenSSH_9.2\r\n"), ""),
}
HARMLESS = ("another protocol", "200 headers")  # on :8080: a password is a line, with any header or none
SOME = [
    "silent",
    "a byte a second, in the body",
    "endless body",
    "endless 1xx",
    "truncated in the body",
    "reset in the body",
    "chunk longer than what comes",
    "endless small chunks",
    "gzip bomb",
    "redirect to a good one",
    "401",
    "500",
    "HTML",
    "a megabyte",
]


class Case(NamedTuple):
    """One hostile server somewhere."""

    where: str
    name: str

    def __str__(self) -> str:
        return f"{self.where}: {self.name}"


METADATA_PORT, BEHIND_ID, PASSWORD_PORT, ACKNOWLEDGEMENT = "80", "80 after the id", "8080", "acknowledgement"
CASES = [
    *(Case(METADATA_PORT, name) for name in HOSTILE),
    *(Case(PASSWORD_PORT, name) for name in HOSTILE if name not in HARMLESS),
    *(Case(BEHIND_ID, name) for name in SOME),
    *(Case(ACKNOWLEDGEMENT, name) for name in SOME),
]


def wait_of(case: Case) -> float:
    """Some wait and ask again and again; for the others one look says all."""
    return WAIT if case.name in SOME and case.where != ACKNOWLEDGEMENT else 0.0


def limit_of(case: Case) -> float:
    """The seconds that a pass may take, its acknowledgement included."""
    return WAIT + (ACKNOWLEDGING if case.where == ACKNOWLEDGEMENT else 0)


class Happened(NamedTuple):
    """What one pass did: its cost, its tree, the hostile server's port, and who was told or lured."""

    done: Measured
    root: Path
    port: int
    acknowledged: int
    lured: int

    @property
    def status(self) -> Any:
        """status.json as it lies in the tree."""
        return json.loads((self.root / "run/csagent/status.json").read_text())

    def states(self) -> Dict[str, str]:
        """Each datum's state."""
        return {datum: entry["state"] for datum, entry in self.status["data"].items()}

    def detail(self) -> str:
        """What is told about the hostile place."""
        (one,) = [one for one in self.status["places"] if one["place"].endswith(f":{self.port}")]
        return str(one["detail"])

    def reasons(self) -> List[str]:
        """Every reason in the status."""
        status = self.status
        found = [entry["reason"] for entry in status["data"].values()]
        found += [place["detail"] for place in status["places"]]
        return [*found, *(refusal["reason"] for refusal in status["refusals"])]

    def hostname(self) -> str:
        """/etc/hostname."""
        return (self.root / "etc/hostname").read_text().strip()

    def authorized(self) -> str:
        """authorized_keys, empty where there is none."""
        path = self.root / "root/.ssh/authorized_keys"
        return path.read_text() if path.exists() else ""

    def password_is(self, password: Optional[str]) -> bool:
        """Whether root has this password; None for the locked one of the beginning."""
        field = (self.root / "etc/shadow").read_text().split(":")[1]
        if password is None:
            return field == "*"
        return bool(libcrypt.matches(Secret(password.encode()), field))


def body_for(request: bytes) -> bytes:
    """What would be believed where it was asked."""
    if b"DomU_Request" in request:
        return MARKER.encode()
    return METADATA.get(request.split(b" ")[1].decode("latin-1"), b"")


def answer(connection: socket.socket, body: bytes) -> None:
    """An ordinary reply."""
    connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def apply_against(root: Path, port: int, password_port: int, wait: float) -> Measured:
    """`csagent apply` on a fresh tree against these two ports."""
    places = ("--router", f"127.0.0.1:{port}", "--password-port", str(password_port))
    return csagent(make_tree(root), "apply", "--json", "--wait", str(wait), *places, program=PATIENT)


def run(case: Case, root: Path) -> Happened:
    """One case, with servers of its own."""
    lures: List[bytes] = []
    with contextlib.ExitStack() as stack:
        # Unsigned, so that a password needs metadata that is believed.
        lab = stack.enter_context(LabRouter(CLOUD, shape="headerless"))

        def lure(connection: socket.socket, request: bytes) -> None:
            lures.append(request)
            answer(connection, body_for(request))

        good = Peer(lure)
        stack.callback(good.stop)

        def behaviour(connection: socket.socket, request: bytes) -> None:
            if case.where == BEHIND_ID and b"/instance-id " in request:
                answer(connection, INSTANCE.encode())
            elif case.where == ACKNOWLEDGEMENT and b"send_my_password" in request:
                said(OK + b"\r\nBODY")(connection, PASSWORD.encode())
            elif case.where == ACKNOWLEDGEMENT and b"saved_password" not in request:
                said(OK + b"\r\nBODY")(connection, b"bad_request")
            elif case.name == "redirect to a good one":
                target = b"Location: http://127.0.0.1:%d" % good.port + request.split(b" ")[1]
                status(302, target)(connection, body_for(request))
            else:
                HOSTILE[case.name][0](connection, body_for(request))

        peer = Peer(behaviour)
        stack.callback(peer.stop)
        on_8080 = case.where in (PASSWORD_PORT, ACKNOWLEDGEMENT)
        ports = (lab.port, peer.port) if on_8080 else (peer.port, lab.password_port)
        done = apply_against(root, *ports, wait_of(case))
        assert peer.requests, "the hostile server was asked"
        return Happened(done, root, peer.port, len(lab.acknowledged), len(lures))


@pytest.fixture(scope="module")
def passes(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Callable[[Case], Happened]]:
    """The passes of all the cases that this session has, side by side."""
    here = [item for item in request.session.items if item.path == request.path]
    params = [getattr(item, "callspec", None) and item.callspec.params.get("case") for item in here]
    wanted = [case for case in CASES if case in params]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        ran = {case: pool.submit(run, case, tmp_path_factory.mktemp("guest") / "root") for case in wanted}
        yield lambda case: ran[case].result()


def check_cost(done: Measured, wait: float) -> None:
    """Within its deadline, what a machine costs that is busy, and 64 MiB, the largest process counted."""
    assert done.seconds < wait + SLACK and done.processor < 15
    assert done.peak <= PEAK_LIMIT


def check_words(happened: Happened) -> None:
    """Reasons are one short line, and nothing shows a password or what a hostile server sent."""
    for reason in happened.reasons():
        assert "\n" not in reason and len(reason) < 400 and reason.isprintable()
    written = "".join(path.read_text() for path in (happened.root / "run/csagent").iterdir())
    shown = f"{happened.done.out}{happened.done.err}{written}".lower()
    assert MARKER.lower() not in shown and PASSWORD.lower() not in shown and EVIL_KEY.lower() not in shown
    assert len(happened.done.err.splitlines()) <= 5


def of(where: str) -> Any:
    """The cases of one place, as parameters."""
    return pytest.mark.parametrize("case", [case for case in CASES if case.where == where], ids=str)


@of(METADATA_PORT)
def test_hostile_metadata_server(passes: Callable[[Case], Happened], case: Case) -> None:
    """Nothing is believed, so the password of the same address is not set either; exit code 4, a reason."""
    happened = passes(case)
    check_cost(happened.done, limit_of(case))
    assert happened.done.code == 4
    assert (happened.hostname(), happened.authorized(), happened.password_is(None)) == ("debian", "", True)
    assert (happened.acknowledged, happened.lured) == (0, 0)
    assert re.search(HOSTILE[case.name][1], happened.detail()), happened.detail()
    assert len(happened.done.err.splitlines()) == 1
    check_words(happened)


@of(PASSWORD_PORT)
def test_hostile_password_server(passes: Callable[[Case], Happened], case: Case) -> None:
    """Host name and keys of the good :80 are applied; the password stays as it was, with a reason."""
    happened = passes(case)
    check_cost(happened.done, limit_of(case))
    assert (happened.hostname(), happened.password_is(None)) == ("web01", True)
    assert make_key(1) in happened.authorized()
    assert happened.states()["password"] not in ("applied", "unchanged")
    assert happened.status["data"]["password"]["reason"]
    assert re.search(HOSTILE[case.name][1], happened.detail()), happened.detail()
    assert happened.lured == 0
    check_words(happened)


@of(BEHIND_ID)
def test_hostile_behind_a_good_instance_id(passes: Callable[[Case], Happened], case: Case) -> None:
    """A router that says the right id and then turns hostile: its password is set, nothing else changes."""
    happened = passes(case)
    check_cost(happened.done, limit_of(case))
    assert (happened.hostname(), happened.authorized(), happened.password_is(PASSWORD)) == (
        "debian",
        "",
        True,
    )
    assert (happened.acknowledged, happened.lured) == (1, 0)
    told = {refusal["datum"]: refusal["reason"] for refusal in happened.status["refusals"]}
    assert {"hostname", "ssh_keys"} <= set(told)
    assert all(re.search(HOSTILE[case.name][1], reason) for reason in told.values()), told
    check_words(happened)


@of(ACKNOWLEDGEMENT)
def test_hostile_acknowledgement(passes: Callable[[Case], Happened], case: Case) -> None:
    """The password is set; a server that will not confirm is told of again, and holds up nobody."""
    happened = passes(case)
    check_cost(happened.done, limit_of(case))
    assert (happened.hostname(), happened.password_is(PASSWORD)) == ("web01", True)
    entry = happened.status["data"]["password"]
    assert (entry["state"], entry["acknowledged"]) == ("applied", "no")
    assert re.search(HOSTILE[case.name][1], entry["reason"]), entry["reason"]
    assert happened.lured == 0
    check_words(happened)


# --- a router that says who we are, and then far too much ---

LISTING = "/latest/meta-data/"
NAME = f"{LISTING}local-hostname"
KEYS = f"{LISTING}public-keys"
MANY = b"".join(b"key-%04d\n" % number for number in range(6000))

EXCESS: Dict[str, "tuple[Dict[str, bytes], str]"] = {
    "6,000 keys": ({LISTING: MANY, "": b"value"}, "more than 1000 keys"),
    "6,000 keys of 60 kB each": ({LISTING: MANY, "": b"v" * 60_000}, "more than 2097152 bytes of metadata"),
    "6,000 keys of a megabyte each": ({LISTING: MANY, "": MIB}, "more than 65536 bytes"),
    "a listing of 50 MB": ({LISTING: MANY * 1000, "": b"value"}, "listing"),
    "a key name of a megabyte": ({LISTING: b"local-hostname\n" + MIB}, "more than 65536 bytes"),
    "a key name of 60 kB": ({LISTING: b"local-hostname\n" + b"k" * 60_000}, "not one that can be asked for"),
    "6,000 directories": ({LISTING: MANY.replace(b"\n", b"/\n"), "": b"a\nb\n"}, "more than 1000 keys"),
    "directories of 6,000 keys": (
        {LISTING: b"".join(b"dir-%02d/\n" % number for number in range(90)), "": MANY},
        "more than 1000 keys",
    ),
    "a value of a megabyte": (
        {LISTING: b"custom\n", f"{LISTING}custom": MIB},
        "custom|more than 65536 bytes",
    ),
    "20,000 public keys": (
        {KEYS: b"".join(make_key(n % 250, f"u{n}").encode() + b"\n" for n in range(20_000))},
        "more than 1048576 bytes",
    ),
    "2,000 public keys": (
        {KEYS: b"".join(make_key(n).encode() + b"\n" for n in range(2000))},
        "more than 1000 keys",
    ),
    "60 kB of lines that are no keys": ({KEYS: b"no\n" * 20_000}, "not a public key"),
    "user-data of 20 MB": ({"/latest/user-data": MIB * 20}, "more than 1048576 bytes"),
}


@pytest.mark.parametrize("case", [Case("excess", name) for name in EXCESS], ids=str)
def test_too_much_of_everything(case: Case, tmp_path: Path) -> None:
    """What is too much is left out with a reason; host name and password of the same router are applied."""
    pages, reason = EXCESS[case.name]

    def behaviour(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode("latin-1")
        known = {**METADATA, NAME: b"web01", KEYS: make_key(1).encode(), **pages}
        default = pages.get("", b"") if path.startswith(LISTING) else b""
        answer(connection, known.get(path, default))

    peer = Peer(behaviour)
    try:
        with LabRouter(CLOUD) as lab:
            done = apply_against(tmp_path / "root", peer.port, lab.password_port, 120)
            happened = Happened(done, tmp_path / "root", peer.port, len(lab.acknowledged), 0)
    finally:
        peer.stop()
    check_cost(done, 120)
    assert happened.password_is(PASSWORD) and happened.hostname() == "web01"
    told = [f"{refusal['datum']} {refusal['reason']}" for refusal in happened.status["refusals"]]
    assert any(re.search(reason, one) for one in told), told[:5]
    assert len(told) <= 66
    stored = (tmp_path / "root/run/csagent/instance.json").stat().st_size
    assert stored < 6 << 20
    query = csagent(tmp_path / "root", "query", "hostname")
    assert (query.out, query.peak <= PEAK_LIMIT) == ("web01\n", True)


def test_directories_are_kept(tmp_path: Path) -> None:
    """Keys inside directories, as newer providers have (field/cloudstack#2.8), cost nothing of the rest."""
    pages = {**METADATA, NAME: b"web01", LISTING: b"local-hostname\ndisks/\n"}
    pages.update({f"{LISTING}disks/": b"root\n", f"{LISTING}disks/root": b"/dev/vda"})
    peer = Peer(lambda one, request: answer(one, pages.get(request.split(b" ")[1].decode(), b"")))
    try:
        done = apply_against(tmp_path / "root", peer.port, peer.port, 120)
    finally:
        peer.stop()
    assert csagent(tmp_path / "root", "query", "disks/root").out == "/dev/vda\n", done
    assert (tmp_path / "root/etc/hostname").read_text() == "web01\n"


# --- who this VM is, and who may say so: candidates on several NICs ---

OTHER = "7a1b2c3d-0000-4a55-9f0e-6d1b2c3d4e5f"
OURS = Platform(product="CloudStack KVM Hypervisor", uuid=INSTANCE, cloudstack=True)
VM = Cloud(instance_id=INSTANCE, hostname="web01", password=PASSWORD)
ROGUE = Cloud(instance_id=OTHER, hostname="evil", ssh_keys=(EVIL_KEY,), password=MARKER)
NO_DMI = Platform()
Asked = Callable[..., client.RouterAnswer]


@pytest.fixture
def ask(live: System, candidate: Callable[..., Candidate], unhurried: None) -> Asked:
    """Look at what is on eth0, the default NIC, and on eth1, which answers first.

    Where somebody is silent it is the end of the look that ends the waiting for him.
    """

    def look(
        default: Sequence[Any], second: Sequence[Any], platform: Platform = NO_DMI, seconds: float = HOUR
    ) -> Any:
        made = [candidate(one, interface="eth0", default=True, source="127.0.0.1") for one in default]
        made += [candidate(one, interface="eth1", source="127.0.0.9") for one in second]
        return client.look(client.Question(live, made, platform, time.monotonic() + seconds))

    return look


def value(answered: client.RouterAnswer) -> Optional[bytes]:
    """The password that would be set."""
    offered = [one.password.value for one in answered.readings if one.password.value is not None]
    return offered[0].reveal() if offered else None


class Ports(NamedTuple):
    """A place by its ports, for a candidate."""

    address: str
    port: int
    password_port: int


def test_two_vms_without_dmi(ask: Asked, servers: Any) -> None:
    """Two routers, two instances, no DMI: the default NIC decides, though it is slower, for all data."""
    ours, rogue = servers.lab(VM, "127.0.0.2", latency=0.3), servers.lab(ROGUE, "127.0.0.3")
    answered = ask([ours], [rogue])
    (reading,) = answered.readings
    assert (reading.instance_id, reading.metadata["local-hostname"]) == (INSTANCE, "web01")
    assert value(answered) == PASSWORD.encode()
    assert "foreign" in {place.outcome for place in answered.places}
    assert [request for request in rogue.requests if request.server == "password"] == []


@pytest.mark.parametrize("signed", ["python3", "headerless"])
@pytest.mark.parametrize("default", ["silent", "refused", "ours", "empty"])
def test_a_rogue_second_nic_with_another_instance(
    ask: Asked, servers: Any, default: str, signed: str
) -> None:
    """DMI names the instance: plausible metadata and password of another are not read, whoever is up."""
    rogue = servers.lab(ROGUE, "127.0.0.3", shape=signed)
    dead = Ports("127.0.0.2", servers.free_port("127.0.0.2"), servers.free_port("127.0.0.2"))
    first: Any = dead
    if default == "silent":
        mute = servers.peer(silent, "127.0.0.2")
        first = Ports("127.0.0.2", mute.port, mute.port)
    elif default in ("ours", "empty"):
        lab = servers.lab(VM, "127.0.0.2", shape="early-python3")
        if default == "empty":
            lab.change(password=None)
        first = lab
    answered = ask([first], [rogue], OURS, WAIT if default == "silent" else HOUR)
    assert {reading.instance_id for reading in answered.readings} <= {INSTANCE}
    assert value(answered) == (PASSWORD.encode() if default == "ours" else None)
    assert "evil" not in repr(answered.readings) and MARKER not in repr(answered)
    assert rogue.acknowledged == []


@pytest.mark.parametrize("metadata", ["refused", "silent", "401", "HTML"])
@pytest.mark.parametrize("shape", ["python3", "headerless"])
def test_a_rogue_second_nic_with_a_password(ask: Asked, servers: Any, metadata: str, shape: str) -> None:
    """It has no metadata of ours: though its password is signed, and nobody else has one, it is not ours."""
    ours = servers.lab(VM, "127.0.0.2")
    rogue = servers.lab(ROGUE, "127.0.0.3", shape=shape)
    port = servers.free_port("127.0.0.3")
    if metadata == "silent":
        port = servers.peer(silent, "127.0.0.3").port
    elif metadata in HOSTILE:
        act = HOSTILE[metadata][0]
        port = servers.peer(lambda connection, _request: act(connection, b""), "127.0.0.3").port
    answered = ask(
        [Ports("127.0.0.2", ours.port, servers.free_port("127.0.0.2"))],
        [Ports("127.0.0.3", port, rogue.password_port)],
        seconds=WAIT if metadata == "silent" else HOUR,
    )
    assert (answered.readings[0].instance_id, value(answered)) == (INSTANCE, None)
    assert answered.readings[0].password.state == "unknown"
    assert rogue.acknowledged == []


@pytest.mark.parametrize("page", ["401", "403", "HTML", "silent", "reset at once", "500"])
def test_a_web_interface_as_gateway(ask: Asked, servers: Any, page: str) -> None:
    """The router's own :8080 is down; a gateway on the same NIC with a page on :80 and a word on :8080
    is somebody else's."""
    ours = servers.lab(VM, "127.0.0.2")
    act = HOSTILE[page][0]
    web = servers.peer(lambda connection, _request: act(connection, b""), "127.0.0.4")
    word = servers.says(b"HTTP/1.1 200 OK\r\nServer: lighttpd\r\n\r\nwelcome-EXAMPLE", "127.0.0.4")
    own = Ports("127.0.0.2", ours.port, servers.free_port("127.0.0.2"))
    answered = ask(
        [own, Ports("127.0.0.4", web.port, word.port)], [], seconds=WAIT if page == "silent" else HOUR
    )
    assert (answered.readings[0].instance_id, value(answered)) == (INSTANCE, None)
    assert "says the same whatever it is asked" in answered.readings[0].password.reason


def test_dmi_outranks_a_name_that_proves_nothing(ask: Asked, servers: Any) -> None:
    """i-2-3-VM cannot be compared with DMI's UUID: it is not believed beside a router that names it."""
    nameless = servers.lab(replace(ROGUE, instance_id="i-2-3-VM"), "127.0.0.2")
    ours = servers.lab(VM, "127.0.0.3", latency=0.1)
    answered = ask([nameless], [ours], OURS)
    assert [reading.instance_id for reading in answered.readings] == [INSTANCE]
    assert "evil" not in repr(answered.readings) and value(answered) != MARKER.encode()
