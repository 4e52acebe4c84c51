"""A host full of VMs comes back at once, and one small virtual router has to serve them all.

    python crowd.py server OPTIONS      the router: one process, one thread, so many requests a second
    python crowd.py agents OPTIONS      some of the VMs: threads that run csagent's own reading code

Everything is on loopback and real: sockets, the kernel's listen queue and its repeated SYNs, time. An agent
is a source address of 127.0.0.0/8, which is also how the router tells its VMs apart. An agent does what a
pass of the daemon does with the network: `router.read`, setting the password (here: noting it), then
`passwords.acknowledge`; and again, after the daemon's own pause, while something is missing. Every loop ends
at `--end`, a moment of the monotonic clock, which on Linux all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import select
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

from csagent.daemon.schedule import close_look_pause
from csagent.lab.cloud import Cloud
from csagent.lab.password_replies import SHAPES
from csagent.lab.router import LabRouter
from csagent.model import Candidate, Endpoint, Platform
from csagent.sources.acknowledge import PATIENCE as ACK_PATIENCE
from csagent.sources.router import client, passwords
from csagent.sources.router_reader import LIFE as ROUTER_LIFE
from csagent.system.seams import Dialer, System
from csagent.system.sockets import DeadlineSocket

ROUTER_ADDRESS = "127.0.0.1"
BACKLOG = 128
OPEN_LIMIT = 150  # Apache's MaxRequestWorkers, unless somebody has changed it
KEPT_SECONDS = 5.0  # and its KeepAliveTimeout
CATCH_UP = 0.1  # seconds of service that a server which was not scheduled may make good
BEAT, STALL = 0.05, 0.25  # seconds between two looks at the clock, and by which one may be late
HASHING_SECONDS = 0.2  # of yescrypt, about; it is not done here, as 1,000 guests have more processors


def source_of(number: int) -> str:
    """The address of a VM."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def password_of(number: int) -> str:
    """The password of a VM, its own."""
    return f"EXAMPLE-{number:05d}-crowd"


def instance_of(number: int) -> str:
    """The instance id of a VM."""
    return f"00000000-0000-4000-8000-{number:012d}"


def cloud(count: int) -> Cloud:
    """What the router knows."""
    vms = {
        source_of(number): Cloud(
            instance_id=instance_of(number), hostname=f"vm-{number}", password=password_of(number)
        )
        for number in range(count)
    }
    return Cloud(instance_id="none", password=None, vms=vms)


class Heartbeat(threading.Thread):
    """Notes when this process stood still: its agents then come all at once, by no doing of csagent's."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stalls: List[Tuple[float, float]] = []

    def run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(BEAT)
            now = time.monotonic()
            if now - before > BEAT + STALL:
                self.stalls.append((before, now))
            before = now


# --- the router -----------------------------------------------------------------------------------


class Router:
    """One thread that reads, waits its time, and answers: metadata and passwords, at one rate together."""

    def __init__(self, count: int, rate: float, end: float) -> None:
        self.lab = LabRouter(cloud(count))
        self.pause = 1.0 / rate
        self.end = end
        self.free_at = time.monotonic()
        self.poll = select.epoll()
        self.listeners = {}
        for kind in ("metadata", "password"):
            listener = socket.create_server((ROUTER_ADDRESS, 0), backlog=BACKLOG)
            listener.setblocking(False)
            self.listeners[listener.fileno()] = (listener, kind)
            self.poll.register(listener.fileno(), select.EPOLLIN)
        self.open: Dict[int, Tuple[socket.socket, str, str]] = {}
        self.heard: Dict[int, bytes] = {}
        self.last: Dict[int, float] = {}
        self.accepting = True
        self.times: List[float] = []
        self.requests: Dict[str, int] = {}  # by source
        self.sent: List[Tuple[str, str]] = []  # (source, password) as they went out
        self.most_open = 0
        self.connections = 0

    @property
    def ports(self) -> Dict[str, int]:
        return {kind: listener.getsockname()[1] for listener, kind in self.listeners.values()}

    def serve(self) -> None:
        """Until `end`, or until standard input is closed."""
        self.poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        swept = time.monotonic()
        while time.monotonic() < self.end:
            self._accept_or_not()
            for descriptor, _event in self.poll.poll(0.5, 64):
                if descriptor == 0:
                    return
                if descriptor in self.listeners:
                    self._accept(*self.listeners[descriptor])
                elif descriptor in self.open:
                    self._hear(descriptor)
            if time.monotonic() - swept > 0.5:
                swept = time.monotonic()
                for idle in [one for one, at in self.last.items() if swept - at > KEPT_SECONDS]:
                    self._close(idle)

    def _accept_or_not(self) -> None:
        """The web server takes no more connections than it has workers; the password server's are short."""
        wanted = sum(kind == "metadata" for _, kind, _ in self.open.values()) < OPEN_LIMIT
        for descriptor, (_, kind) in self.listeners.items():
            if kind == "metadata" and wanted != self.accepting:
                self.poll.modify(descriptor, select.EPOLLIN if wanted else 0)
        self.accepting = wanted

    def _accept(self, listener: socket.socket, kind: str) -> None:
        room = OPEN_LIMIT - sum(one == "metadata" for _, one, _ in self.open.values())
        for _ in range(room if kind == "metadata" else BACKLOG):
            try:
                connection, (source, _port) = listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open[connection.fileno()] = (connection, kind, source)
            self.heard[connection.fileno()] = b""
            self.last[connection.fileno()] = time.monotonic()
            self.poll.register(connection.fileno(), select.EPOLLIN)
            self.connections += 1
            self.most_open = max(self.most_open, len(self.open))

    def _hear(self, descriptor: int) -> None:
        connection, kind, source = self.open[descriptor]
        try:
            piece = connection.recv(4096)
        except OSError:
            piece = b""
        if not piece:
            self._close(descriptor)
            return
        self.heard[descriptor] += piece
        if b"\r\n\r\n" not in self.heard[descriptor]:
            return
        request, self.heard[descriptor] = self.heard[descriptor], b""
        self._work()
        self.times.append(time.monotonic())
        self.requests[source] = self.requests.get(source, 0) + 1
        try:
            answer = self._page if kind == "metadata" else self._word
            connection.sendall(answer(request, source))
        except OSError:
            pass  # the agent did not wait so long
        self.last[descriptor] = time.monotonic()
        if kind == "password":
            self._close(descriptor)

    def _work(self) -> None:
        """Be busy with a request for as long as this router is."""
        now = time.monotonic()
        self.free_at = max(self.free_at, now - CATCH_UP) + self.pause
        time.sleep(max(0.0, self.free_at - now))

    def _page(self, request: bytes, source: str) -> bytes:
        status, body = self.lab.page(request.split(b" ")[1].decode(), source)
        reason = {200: b"OK", 404: b"Not Found"}[status]
        return b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
            status,
            reason,
            len(body),
            body,
        )

    def _word(self, request: bytes, source: str) -> bytes:
        word = request.split(b"DomU_Request: ")[1].split(b"\r\n")[0].decode()
        kind, body = self.lab.answer(word, source)
        if kind == "password":
            self.sent.append((source, body))
        return SHAPES["python3"](kind, body.encode())

    def _close(self, descriptor: int) -> None:
        connection = self.open.pop(descriptor)[0]
        del self.heard[descriptor], self.last[descriptor]
        self.poll.unregister(descriptor)
        connection.close()

    def report(self) -> Dict[str, Any]:
        return {
            "times": self.times,
            "requests": self.requests,
            "sent": sorted(set(self.sent)),
            "acknowledged": self.lab.acknowledged,
            "connections": self.connections,
            "most_open": self.most_open,
        }


# --- the agents -----------------------------------------------------------------------------------


class CountingDialer(Dialer):
    """The real dialer; it notes when a connection was asked for, whatever came of it."""

    def __init__(self) -> None:
        self.times: List[float] = []

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        self.times.append(time.monotonic())
        return super().connect(endpoint._replace(interface=None), deadline)


class Agent:
    """One VM."""

    def __init__(self, number: int, ports: Dict[str, int], starts: float, end: float) -> None:
        self.number = number
        self.starts = starts
        self.end = end
        self.dialer = CountingDialer()
        self.system = System(dialer=self.dialer)
        self.candidate = Candidate(
            ROUTER_ADDRESS,
            "server-identifier",
            "DHCP server of eth0",
            interface="eth0",
            source=source_of(number),
            default=True,
            port=ports["metadata"],
            password_port=ports["password"],
        )
        self.set: List[str] = []
        self.told: List[str] = []
        self.passes = 0
        self.unfinished = 0
        self.password_after: Optional[float] = None
        self.done_after: Optional[float] = None
        self.wrong: List[str] = []

    def boot(self) -> None:
        time.sleep(max(0.0, self.starts - time.monotonic()))
        while time.monotonic() < self.end and self.done_after is None:
            if self.one_pass():
                self.done_after = time.monotonic() - self.starts
            else:
                rest = close_look_pause(self.unfinished, random.random())
                time.sleep(min(rest, max(0.0, self.end - time.monotonic())))

    def one_pass(self) -> bool:
        """True where nothing is left to do."""
        self.passes += 1
        deadline = min(self.end, time.monotonic() + ROUTER_LIFE)
        answer = client.read(client.Question(self.system, (self.candidate,), Platform(), deadline))
        self.unfinished = self.unfinished + 1 if answer.readings else 0
        if not answer.readings:
            return False
        (reading,) = answer.readings
        if reading.instance_id not in (None, instance_of(self.number)):
            self.wrong.append(f"read the metadata of {reading.instance_id}")
        if reading.metadata.get("local-hostname", f"vm-{self.number}") != f"vm-{self.number}":
            self.wrong.append("read the host name of another")
        offer = reading.password
        if offer.state == "offered" and offer.value is not None:
            value = offer.value.reveal().decode()
            if value not in self.set:
                time.sleep(HASHING_SECONDS)
                self.set.append(value)
                if self.password_after is None:
                    self.password_after = time.monotonic() - self.starts
            until = time.monotonic() + ACK_PATIENCE
            places = passwords.acknowledge(self.system, offer.endpoints, offer.value, until)
            self.told.extend(place.outcome for place in places)
        # An acknowledgement may have been heard, and its answer lost: then nothing is offered any more.
        told = self.told[-1:] == ["ok"] or offer.state == "none"
        return reading.complete and bool(self.set) and told

    def report(self) -> Dict[str, Any]:
        return {
            "number": self.number,
            "set": self.set,
            "told": self.told,
            "passes": self.passes,
            "password_after": self.password_after,
            "done_after": self.done_after,
            "starts": self.starts,
            "wrong": self.wrong,
            "connects": self.dialer.times,
        }


def say(document: Any) -> None:
    """One line for whoever started us."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("server", "agents"))
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--end", type=float, required=True)
    parser.add_argument("--first", type=int)
    parser.add_argument("--begin", type=float)
    parser.add_argument("--spread", type=float)
    parser.add_argument("--ports", type=json.loads)
    words = parser.parse_args()
    heartbeat = Heartbeat()
    heartbeat.start()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if words.role == "server":
        served = Router(words.count, words.rate, words.end)
        say(served.ports)
        served.serve()
        say({**served.report(), "stalls": heartbeat.stalls})
        return
    from csagent.sources.router import http

    http.warm_up()
    numbers = range(words.first, words.first + words.count)
    chance = random.Random(words.first)
    agents = [
        Agent(number, words.ports, words.begin + chance.uniform(0.0, words.spread), words.end)
        for number in numbers
    ]
    threads = [threading.Thread(target=agent.boot, daemon=True) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, words.end + 5.0 - time.monotonic()))
    say({"agents": [agent.report() for agent in agents], "stalls": heartbeat.stalls})


if __name__ == "__main__":
    main()
