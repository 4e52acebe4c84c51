"""Whom this machine lets reach a router: doctor tries once as root, at the addresses that the pass asked."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Iterator, List

import pytest
from support.healthy_machine import Patient
from support.replace_fields import replace

from csagent.doctor import reach
from csagent.doctor.checks import places
from csagent.model import Candidate, Endpoint, Found, Observation, Observed, Place
from csagent.sandbox import jail
from csagent.sources.request import Options
from csagent.sources.router import connect
from csagent.system.seams import Dialer, System
from csagent.system.sockets import DeadlineSocket


class Counting(Dialer):
    """Says where it was led; a port that nobody listens on refuses, as everywhere."""

    def __init__(self) -> None:
        self.asked: List[Endpoint] = []

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        self.asked.append(endpoint)
        return super().connect(endpoint, deadline)


@pytest.fixture
def ports() -> Iterator[List[int]]:
    """Two that somebody listens on, and one that nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            free = gone.getsockname()[1]
        yield [one.getsockname()[1], other.getsockname()[1], free]


def observed(candidates: List[Candidate], *asked: Place) -> Observed:
    """A pass that asked these."""
    return Observed(Found(candidates=tuple(candidates)), Observation(places=asked))


def test_root_tries_what_did_not_answer_and_nothing_else(ports: List[int]) -> None:
    """Each at its own port, once; not what answered, or is no address, candidate or port of the pass."""
    web, word, free = ports
    candidates = [
        Candidate("127.0.0.1", "given", "", port=web, password_port=word),
        Candidate("127.0.0.2", "gateway", "", port=web, password_port=word),
        Candidate("127.0.0.4", "gateway", "", port=free),
        Candidate("127.0.0.5", "gateway", "", port=web),
        Candidate("data-server.", "data-server", ""),
    ]
    dialer = Counting()
    asked = observed(
        candidates,
        Place(f"router 127.0.0.1:{web}", "", "unreachable", connect.ONLY_ROOT),
        Place(f"router 127.0.0.2:{web}", "", "timeout"),
        Place(f"router 127.0.0.4:{free}", "", "timeout"),
        Place(f"password server 127.0.0.1:{word}", "", "refused"),
        Place(f"password server 127.0.0.2:{word}", "", "ok"),
        Place(f"router 127.0.0.3:{web}", "", "timeout"),
        Place("router data-server.", "", "absent"),
        Place("drive /dev/sr1", "", "timeout"),
        Place(f"router 127.0.0.5:{web}", "", "timeout", seconds=0.045),  # the pass was over
    )
    given = Options(router=("127.0.0.1", web), password_port=word)
    found = reach.to_root_only(System()._replace(dialer=dialer), asked, given)
    assert found == (f"127.0.0.1:{web}", f"127.0.0.1:{word}")
    assert sorted((one.address, one.port) for one in dialer.asked) == sorted(
        [("127.0.0.1", web), ("127.0.0.1", word), ("127.0.0.2", web)]
    )


def test_this_machine_is_not_tried_unless_it_was_named(ports: List[int]) -> None:
    """Whatever a child says of the places that it has asked, and wherever it wants root to connect to."""
    web, word, _free = ports
    candidate = Candidate("127.0.0.1", "server-identifier", "", port=web, password_port=word)
    dialer = Counting()
    asked = observed(
        [candidate],
        Place(f"router 127.0.0.1:{web}", "", "unreachable"),
        Place(f"password server 127.0.0.1:{word}", "", "timeout"),
    )
    options = Options(password_port=word)
    assert reach.to_root_only(System()._replace(dialer=dialer), asked, options) == ()
    assert dialer.asked == []


def test_an_address_of_the_name_is_tried_from_the_names_nic() -> None:
    """What data-server. led to was asked, too: from the NIC whose servers said so."""
    candidate = Candidate("data-server.", "data-server", "", "eth7", "10.9.9.9")
    asked = observed([candidate], Place("router 10.9.9.1", "", "timeout"))
    tried = reach._endpoints(asked, Options(), reach._not_reached(asked))
    assert tried == [Endpoint("10.9.9.1", 80, "10.9.9.9", "eth7")]


@pytest.mark.root
def test_any_user_asks_from_where_the_pass_asked() -> None:
    """At the candidates' password port alone, and this machine only where it was named."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        word, free = server.getsockname()[1], other.getsockname()[1]
        asked = observed(
            [Candidate("127.0.0.1", "given", "", source="127.0.0.9", password_port=word)],
            *(Place(f"password server 127.0.0.1:{port}", "", "ok") for port in (word, free)),
            Place(f"password server 127.0.0.2:{word}", "", "ok"),
        )
        assert reach.open_to_all(System(), asked, Options(password_port=word)) == ()
        given = Options(router=("127.0.0.1", 80), password_port=word)
        assert reach.open_to_all(System(), asked, given) == (f"127.0.0.1:{word}",)
        for one in (server, other):
            one.settimeout(0.2)
        with server.accept()[0] as connection:
            assert connection.getpeername()[0] == "127.0.0.9"
        for one in (server, other):
            with pytest.raises(socket.timeout):
                one.accept()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_permission_denied_is_a_reason_of_its_own(number: int) -> None:
    """The kernel refuses the user, not the address."""
    said = connect.problem(OSError(number, os.strerror(number)))
    assert said.outcome == "unreachable" and "only root may reach the router here" in str(said)


@pytest.mark.parametrize("outcome", ["unreachable", "refused", "timeout"])
@pytest.mark.parametrize("which", [0, 1])
def test_it_is_said_that_only_root_gets_there(tmp_path: Path, outcome: str, which: int) -> None:
    """With the rules that let csagent's own user out, for that address and port."""
    patient = Patient(tmp_path)
    port = "8080" if which else "80"
    changed = list(patient.seen.places)
    changed[which] = replace(changed[which], outcome=outcome)
    patient.seen = replace(
        patient.seen,
        places=tuple(changed),
        source_found=bool(which),
        password="unknown",
        root_only=(f"10.1.1.1:{port}",),
    )
    (found, *_rest) = patient.wrong("router")
    assert "root reaches it" in found.means and "10.1.1.1" in found.saw
    user = jail.unprivileged()
    uid = user.uid if user is not None else "UID"
    assert f"uidrange {uid}-{uid} to 10.1.1.1 lookup main" in found.advice
    assert f"ip daddr 10.1.1.1 tcp dport {port} meta skuid {uid} accept" in found.advice


@pytest.mark.parametrize(
    ("as_root", "advice"), [(True, "ip rule; ip route get 10.1.1.1"), (False, "as root: csagent doctor")]
)
def test_without_a_proof_nothing_is_claimed(tmp_path: Path, as_root: bool, advice: str) -> None:
    """Root does not get there either; or doctor is not root, and says who can find out."""
    patient = Patient(tmp_path)
    first = replace(patient.seen.places[0], outcome="unreachable", detail=connect.ONLY_ROOT)
    patient.seen = replace(patient.seen, places=(first,), source_found=False, as_root=as_root)
    (found,) = patient.wrong("router")
    assert advice in found.advice and found.means != places.KEPT_OUT[0]
