"""look() and read() against virtual routers on loopback: whom they believe, and for whom they wait.

No test looks whether something is fast. Where nobody is to be waited for, he never comes, and the deadline is
an hour away (`HOUR`), so that whatever ends within five minutes (`ends_soon`) has not waited.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from support.held_router import Rounds
from support.replace_fields import replace

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.model import Candidate, Endpoint, Place, Platform, Reading
from csagent.sandbox import codec
from csagent.sources.router import client, http, names, password_protocol, password_search, search
from csagent.system.seams import Dialer, System
from csagent.system.sockets import DeadlineSocket

UUID = Cloud().instance_id
OTHER = "5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1eff"
OK = b"HTTP/1.1 200 OK\r\n"
PLATFORM = Platform()
Make = Callable[..., Candidate]
Soon = Callable[[float], float]
HOUR = 3600.0

pytestmark = pytest.mark.usefixtures("unhurried")


@contextlib.contextmanager
def ends_soon() -> Iterator[None]:
    """Long before the deadline of an hour."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 300


def outcomes(answer: client.RouterAnswer) -> Dict[str, str]:
    return {place.place: place.outcome for place in answer.places}


def metadata_places(answer: client.RouterAnswer) -> List[Place]:
    return [place for place in answer.places if place.place.startswith("router ")]


def test_everything_a_router_has_is_read(live: System, servers: Any, candidate: Make, soon: Soon) -> None:
    """Id, host name, keys, user-data and password of an ordinary VR arrive in one complete reading."""
    lab = servers.lab(Cloud(hostname="web-01", user_data=b"\0\xff\r\n", password="marker-EXAMPLE"))
    answer = client.look(client.Question(live, [candidate(lab, interface="eth0")], PLATFORM, soon(HOUR)))
    (reading,) = answer.readings
    assert (reading.instance_id, reading.metadata["local-hostname"]) == (UUID, "web-01")
    assert reading.ssh_keys == Cloud().ssh_keys
    assert reading.user_data == b"\0\xff\r\n"
    assert reading.password.value is not None and reading.password.value.reveal() == b"marker-EXAMPLE"
    assert (reading.interface, reading.complete, reading.refusals) == ("eth0", True, ())
    assert "hypervisor-host-name" not in reading.metadata  # an empty file is no value
    assert outcomes(answer) == {
        f"router 127.0.0.1:{lab.port}": "ok",
        f"password server 127.0.0.1:{lab.password_port}": "ok",
    }
    assert lab.acknowledged == []
    assert "marker" not in repr(answer)


def test_the_answer_crosses_the_wire(live: System, servers: Any, candidate: Make, soon: Soon) -> None:
    """What the child found is the same after its way to the parent."""
    lab = servers.lab(Cloud(user_data=b"\0\xff"))
    answer = client.look(client.Question(live, [candidate(lab)], PLATFORM, soon(HOUR)))
    assert codec.decode(Reading, codec.encode(answer.readings[0])) == answer.readings[0]
    for place in answer.places:
        assert codec.decode(Place, codec.encode(place)) == place


def test_requests_come_from_the_lease_address(
    live: System, servers: Any, candidate: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source address is our identity, on both ports, and a proxy in the environment is no way round."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    lab = servers.lab(Cloud(vms={"127.0.0.2": Cloud(instance_id=OTHER)}))
    answer = client.look(client.Question(live, [candidate(lab, source="127.0.0.2")], PLATFORM, soon(HOUR)))
    assert answer.readings[0].instance_id == OTHER
    assert {request.source for request in lab.requests} == {"127.0.0.2"}
    assert {request.server for request in lab.requests} == {"metadata", "password"}


class Legacy(LabRouter):
    """Knows only /latest/KEY."""

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        return (404, b"") if path.startswith("/latest/meta-data") else super().page(path, source)


class HalfLegacy(LabRouter):
    """Has the id and a listing where they should be, the rest only at the older paths."""

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        if path.startswith("/latest/meta-data/") and path[18:] not in ("", "instance-id"):
            return 404, b""
        return super().page(path, source)


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        (Legacy, [2, 1, 10, 1]),  # id and listing; the older id; all keys; the empty user-data again
        (HalfLegacy, [2, 11, 10]),  # id and listing; all keys; those that were missing, and user-data again
    ],
)
def test_the_older_paths_are_used_where_the_newer_are_missing(
    live: System, servers: Any, candidate: Make, soon: Soon, kind: Any, rounds: List[int]
) -> None:
    """A router that knows only /latest/KEY gives the same metadata, in at most four round trips."""
    lab = servers.started(type("Kind", (Rounds, kind), {})(sizes=rounds))
    (reading,) = client.look(client.Question(live, [candidate(lab)], PLATFORM, soon(HOUR))).readings
    assert (lab.together, lab.late) == (rounds, [])
    assert reading.metadata["local-hostname"] == "vm-1"
    assert reading.metadata["public-ipv4"] == "192.0.2.10"
    assert reading.ssh_keys == Cloud().ssh_keys


class Beside(Rounds):
    """Has a password, but only once all metadata have been asked for."""

    def answer(self, request: str, source: str) -> Tuple[str, str]:
        with self._turn:
            self._turn.wait_for(lambda: len(self.together) == len(self._sizes), 120.0)
        return super().answer(request, source)


@pytest.mark.parametrize(("style", "rounds"), [("flat", [2, 11, 1]), ("directory", [2, 11, 2])])
def test_at_most_four_round_trips(
    live: System, servers: Any, candidate: Make, soon: Soon, style: str, rounds: List[int]
) -> None:
    """A slow router costs a handful of round trips, not one per key; the password runs beside them."""
    lab = servers.started(Beside(sizes=rounds, style=style))
    (reading,) = client.look(client.Question(live, [candidate(lab)], PLATFORM, soon(HOUR))).readings
    assert reading.complete and reading.ssh_keys == Cloud().ssh_keys
    assert (lab.together, lab.late) == (rounds, [])


def test_sixty_more_keys_are_asked_for_together(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """64 requests after the listing, sixteen at a time; then the empty user-data once more."""
    extra = {f"role-{number}": f"value {number}" for number in range(60)}
    rounds = [2, 16, 16, 16, 16, 1]
    lab = servers.started(Rounds(Cloud(metadata=extra), sizes=rounds))
    (reading,) = client.look(client.Question(live, [candidate(lab)], PLATFORM, soon(HOUR))).readings
    assert (lab.together, lab.late) == (rounds, [])
    assert {key: reading.metadata[key] for key in extra} == extra


# --- whom to believe --------------------------------------------------------------------------------

IMPOSTORS = {
    "html": b"<!DOCTYPE html><html><body>Welcome</body></html>",
    "text": b"it works",
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "many lines": b"5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1e01\nmore",
}


@pytest.mark.parametrize("name", list(IMPOSTORS))
def test_another_web_server_is_not_believed(
    live: System, servers: Any, candidate: Make, soon: Soon, name: str
) -> None:
    """A router's own web page is no metadata (field/cloudstack#edge-3); the true one is found beside it."""
    body = IMPOSTORS[name]

    def behaviour(connection: Any, _request: bytes) -> None:
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    peer = servers.peer(behaviour, "127.0.0.3")
    lab = servers.lab()
    answer = client.look(client.Question(live, [candidate(peer), candidate(lab)], PLATFORM, soon(HOUR)))
    assert answer.readings[0].place == f"router 127.0.0.1:{lab.port}"
    first = answer.places[0]
    assert first.outcome in ("malformed", "absent") and first.detail and "\n" not in first.detail


@pytest.mark.parametrize(
    ("platform", "believed"),
    [
        (Platform(uuid=OTHER, cloudstack=True), False),
        (Platform(uuid=UUID.upper(), cloudstack=True), True),
        (Platform(uuid=OTHER, cloudstack=None), True),
        (Platform(uuid=None, cloudstack=True), True),
        (Platform(uuid="not a uuid", cloudstack=True), True),
    ],
)
def test_dmi_tells_another_vms_metadata(
    live: System, servers: Any, candidate: Make, soon: Soon, platform: Platform, believed: bool
) -> None:
    """A UUID unlike DMI's is another VM's, and so is its password (field/cloudstack#edge-22, #edge-23)."""
    lab = servers.lab()
    answer = client.look(client.Question(live, [candidate(lab, interface="eth0")], platform, soon(HOUR)))
    assert bool(answer.readings) is believed
    assert set(outcomes(answer).values()) == {"ok" if believed else "foreign"}


def test_an_old_instance_name_is_not_compared_with_dmi(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """i-2-3-VM says nothing about the UUID."""
    lab = servers.lab(Cloud(instance_id="i-2-3-VM"))
    platform = Platform(uuid=OTHER, cloudstack=True)
    (reading,) = client.look(client.Question(live, [candidate(lab)], platform, soon(HOUR))).readings
    assert reading.instance_id == "i-2-3-VM"


def test_the_better_ranked_of_two_vms_wins(live: System, servers: Any, candidate: Make, soon: Soon) -> None:
    """Where two routers disagree about who we are, the rank decides and the report says so."""
    first = servers.lab(latency=0.3)
    second = servers.lab(Cloud(instance_id=OTHER), "127.0.0.3")
    answer = client.look(client.Question(live, [candidate(first), candidate(second)], PLATFORM, soon(HOUR)))
    assert [reading.instance_id for reading in answer.readings] == [UUID]
    assert outcomes(answer)[f"router 127.0.0.3:{second.port}"] == "foreign"
    assert OTHER in metadata_places(answer)[1].detail


def test_a_silent_better_candidate_is_not_waited_for(
    live: System, servers: Any, candidate: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second after another router has answered, a silent one is out."""
    monkeypatch.setattr(search, "GRACE_SECONDS", 1.0)
    silent = servers.peer(servers.silent, "127.0.0.3")
    lab = servers.lab()
    began = time.monotonic()
    with ends_soon():
        answer = client.look(
            client.Question(live, [candidate(silent, password_port=1), candidate(lab)], PLATFORM, soon(HOUR))
        )
    assert time.monotonic() - began > 0.9
    assert answer.readings[0].place.endswith(f":{lab.port}")
    assert answer.places[0].outcome == "timeout"


@pytest.mark.parametrize("repeat", [False, True])
def test_nobody_holds_a_look_past_its_deadline(
    live: System, servers: Any, candidate: Make, soon: Soon, repeat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent, dripping and flooding peers on every port: no answer, and no time more than allowed."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", HOUR)
    monkeypatch.setattr(password_protocol, "ASK_SECONDS", HOUR)
    head = OK + b"\r\n"
    peers = [
        servers.peer(servers.silent),
        servers.peer(lambda connection, _: servers.drip(connection, head + UUID.encode() * 99)),
        servers.peer(lambda connection, _: servers.flood(connection, b"x" * 65536, head)),
        servers.peer(lambda connection, _: servers.flood(connection, b"HTTP/1.1 100 C\r\n\r\n" * 99)),
        servers.peer(lambda connection, _: servers.reset(connection)),
    ]
    given = [candidate(peer, password_port=peer.port) for peer in peers]
    with ends_soon():
        answer = (client.read if repeat else client.look)(client.Question(live, given, PLATFORM, soon(1.5)))
    assert answer.readings == ()
    assert len(answer.places) == 10
    assert "ok" not in set(outcomes(answer).values())


def test_keys_that_never_end_do_not_cost_the_others(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """One key that hangs is a recorded reason, the reading says that it is not complete."""
    over = threading.Event()

    class Hanging(LabRouter):
        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            if path.endswith("/vm-id"):
                over.wait(HOUR)
            return super().page(path, source)

    lab = servers.started(Hanging())
    # Five seconds for what takes a tenth of one.
    (reading,) = client.look(client.Question(live, [candidate(lab)], PLATFORM, soon(5))).readings
    over.set()
    assert reading.metadata["local-hostname"] == "vm-1"
    assert not reading.complete
    assert [(one.datum, one.reason) for one in reading.refusals] == [("vm-id", "no answer in time")]


def test_no_candidates_no_work(live: System, soon: Soon) -> None:
    """Without a candidate the answer is empty, at once."""
    with ends_soon():
        assert client.read(client.Question(live, [], PLATFORM, soon(HOUR))) == client.RouterAnswer()


# --- data-server. -----------------------------------------------------------------------------------


def test_data_server_is_resolved_and_asked(live: System, servers: Any, candidate: Make, soon: Soon) -> None:
    """The name leads to a router, by the one look-up of its read."""
    lab = servers.lab()
    asked = []

    def resolve(name: Candidate) -> Tuple[str, ...]:
        asked.append(name)
        return ("127.0.0.1",)

    given = candidate(lab, address="data-server.", kind="data-server")
    answer = client.look(client.Question(live, [given], PLATFORM, soon(HOUR), resolve))
    assert answer.readings[0].place == f"router 127.0.0.1:{lab.port}"
    assert answer.readings[0].password.state == "offered"
    assert asked == [given]


def test_data_server_folds_into_the_candidate_with_its_address(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """One address is asked once and reported once, with both reasons."""
    lab = servers.lab(latency=0.1)
    named = candidate(lab, address="data-server.", kind="data-server", why="its name")
    answer = client.look(
        client.Question(
            live, [candidate(lab, why="its lease"), named], PLATFORM, soon(HOUR), lambda _: ("127.0.0.1",)
        )
    )
    (place,) = metadata_places(answer)
    assert place.why == "its lease; also data-server."
    assert sum(request.what.endswith("/instance-id") for request in lab.requests) == 1


def test_data_server_that_does_not_resolve_is_absent(live: System, candidate: Make, soon: Soon) -> None:
    """No such name is a reason, not an error."""

    def resolve(_name: Candidate) -> Tuple[str, ...]:
        raise OSError("no such name")

    given = candidate(address="data-server.", kind="data-server")
    answer = client.look(client.Question(live, [given], PLATFORM, soon(HOUR), resolve))
    (place,) = answer.places
    assert (place.outcome, place.detail) == ("absent", "data-server. does not resolve")


def test_resolvers_that_hang_hold_up_nobody(
    live: System, servers: Any, candidate: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up without an end costs three seconds where there is nobody else, and nothing where there is."""
    release = threading.Event()

    def resolve(_name: Candidate) -> Tuple[str, ...]:
        release.wait(HOUR)
        return ()

    given = candidate(address="data-server.", kind="data-server")
    monkeypatch.setattr(names, "NAME_SECONDS", 3.0)
    try:
        began = time.monotonic()
        with ends_soon():
            answer = client.look(client.Question(live, [given], PLATFORM, soon(HOUR), resolve))
        assert time.monotonic() - began > 2.8
        assert answer.places[0].outcome == "timeout"
        monkeypatch.setattr(names, "NAME_SECONDS", HOUR)
        with ends_soon():
            both = [candidate(servers.lab()), given]
            answer = client.look(client.Question(live, both, PLATFORM, soon(HOUR), resolve))
        assert len(answer.readings) == 1
    finally:
        release.set()


# --- waiting ----------------------------------------------------------------------------------------


class Refusing(Dialer):
    """Refuses so many connections to one port; then something happens, and they are let through.

    `refused` counts them; the other ports of this machine are reached as always.
    """

    def __init__(self, port: int, times: float, then: Callable[[], object] = lambda: None) -> None:
        self.refused = 0
        self._port, self._times, self._then = port, times, then
        self._lock = threading.Lock()

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        with self._lock:
            if endpoint.port == self._port and self.refused < self._times:
                self.refused += 1
                if self.refused == self._times:
                    self._then()
                raise ConnectionRefusedError(111, "refused")
        return super().connect(endpoint._replace(interface=None), deadline)


@pytest.mark.parametrize("hanging", [False, True])
def test_a_late_router_is_caught(servers: Any, candidate: Make, soon: Soon, hanging: bool) -> None:
    """Also while another candidate accepts connections and says nothing.

    How soon it is asked again: `test_pauses_are_short_early_and_longer_later`.
    """
    lab = LabRouter(port=servers.free_port(), password_port=servers.free_port())
    given = [candidate(lab)]
    if hanging:
        silent = servers.peer(servers.silent, "127.0.0.3")
        given.append(candidate(silent, password_port=1))
    late = System(dialer=Refusing(lab.port, 7, lambda: servers.started(lab)))
    with ends_soon():
        answer = client.read(client.Question(late, given, PLATFORM, soon(HOUR)))
    assert answer.readings[0].complete
    assert answer.readings[0].password.state == "offered"


def test_a_router_that_does_not_know_us_yet_is_asked_again(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """404 for all, then metadata: the VR's DHCP answers before its web server (field/cloudstack#1.6)."""

    class Deferred(LabRouter):
        attempts = 0

        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            self.attempts += path == "/latest/meta-data/instance-id"
            return super().page(path, source) if self.attempts > 3 else (404, b"")

    lab = servers.started(Deferred())
    with ends_soon():
        answer = client.read(client.Question(live, [candidate(lab)], PLATFORM, soon(HOUR)))
    assert answer.readings[0].instance_id == UUID and lab.attempts == 4


def test_a_late_password_server_is_waited_for_a_little(
    servers: Any, candidate: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata is there, :8080 still refuses: only the password is asked for again."""
    monkeypatch.setattr(password_search, "PASSWORD_SECONDS", HOUR)
    lab = servers.lab()
    late = Refusing(lab.password_port, 3)
    answer = client.read(client.Question(System(dialer=late), [candidate(lab)], PLATFORM, soon(HOUR)))
    assert answer.readings[0].password.state == "offered" and late.refused == 3
    assert sum(request.what.endswith("/local-hostname") for request in lab.requests) == 1


def test_no_password_server_at_all_ends_in_an_incomplete_reading(
    servers: Any, candidate: Make, soon: Soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """read() gives up on the password after three seconds, look() at once; both keep the metadata."""
    lab = servers.lab()
    given = [candidate(lab)]
    nobody = Refusing(lab.password_port, float("inf"))
    began = time.monotonic()
    with ends_soon():
        question = client.Question(System(dialer=nobody), given, PLATFORM, soon(HOUR))
        (reading,) = client.read(question).readings
    assert time.monotonic() - began > 2.5
    assert (reading.password.state, reading.complete) == ("unknown", False)
    assert "connection refused" in reading.password.reason
    monkeypatch.setattr(password_search, "PASSWORD_SECONDS", HOUR)
    once = Refusing(lab.password_port, float("inf"))
    (reading,) = client.look(client.Question(System(dialer=once), given, PLATFORM, soon(HOUR))).readings
    assert (reading.password.state, reading.complete) == ("unknown", False)
    assert once.refused == 1 < nobody.refused


def test_progress_tells_what_changes(live: System, servers: Any, candidate: Make, soon: Soon) -> None:
    """Who waits hears each new state once: first the refusals, later the reading without its password."""
    lab = servers.lab()
    heard: List[client.RouterAnswer] = []
    client.read(client.Question(live, [candidate()], PLATFORM, soon(3)), progress=heard.append)
    assert "refused" in outcomes(heard[-1]).values()
    assert len(heard) <= 3
    heard.clear()
    given = candidate(lab, password_port=servers.free_port())
    client.read(client.Question(live, [given], PLATFORM, soon(HOUR)), progress=heard.append)
    assert heard[-1].readings[0].metadata["local-hostname"] == "vm-1"
    assert heard[-1].readings[0].password.state == "unknown"


def test_pauses_are_short_early_and_longer_later() -> None:
    """At most 0.8 s in the first two minutes, up to 10 s afterwards, never less than 0.2 s."""
    early = [search.pause_after(n, n * 0.5, jitter) for n in range(1, 240) for jitter in (0.0, 1.0)]
    assert min(early) >= 0.2 and max(early) <= 0.8
    assert search.pause_after(10**6, 10**6, 1.0) == 10.0


def test_one_address_for_two_sources_is_two_candidates(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """The same router asked from another NIC's address may know another VM."""
    lab = servers.lab(Cloud(vms={"127.0.0.2": replace(Cloud(), instance_id=OTHER)}))
    given = [candidate(lab, source="127.0.0.2"), candidate(lab, source="127.0.0.1")]
    answer = client.look(client.Question(live, given, PLATFORM, soon(HOUR)))
    assert answer.readings[0].instance_id == OTHER
    assert [place.outcome for place in metadata_places(answer)] == ["ok", "foreign"]


def test_no_more_candidates_than_the_child_has_descriptors_for(
    live: System, servers: Any, candidate: Make, soon: Soon
) -> None:
    """The twelve best are asked; the report names the others."""
    lab = servers.lab()
    dead = [candidate(lab, address=f"127.0.1.{number}") for number in range(13)]
    answer = client.look(client.Question(live, [candidate(lab), *dead], PLATFORM, soon(HOUR)))
    assert len(answer.readings) == 1
    skipped = [place for place in metadata_places(answer) if place.outcome == "skipped"]
    assert [place.place for place in skipped] == ["router 127.0.1.11", "router 127.0.1.12"]
