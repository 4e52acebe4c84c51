"""Whose password is believed. Pure; the rule is SECURITY.md's, "Whose password".

Metadata answering on :80 says nothing about :8080, and on redundant routers they are different addresses
(field/cloudstack#1.3, #edge-2, #edge-39, #edge-40).
"""

from __future__ import annotations

from typing import FrozenSet, NamedTuple, Optional, Sequence, Tuple

from csagent.model import PasswordOffer, Place
from csagent.sources.router.password_protocol import Network, PasswordReply, PasswordServer

Sender = Tuple[str, Optional[str]]
"""An address, and the source address it is asked from: another network may have the same address."""
Answered = Tuple[PasswordServer, PasswordReply]


class Trust(NamedTuple):
    """What answered on port 80, as a snapshot. Evidence is of an address; that of a network only says who
    else is there.

    `main` is the network whose router may be silent: the default NIC's, or that of the only NIC.
    """

    ours: FrozenSet[Sender] = frozenset()  # gave this instance's id
    others: FrozenSet[Sender] = frozenset()  # gave another VM's
    believed: FrozenSet[Network] = frozenset()  # somebody there gave this instance's id
    answering: FrozenSet[Network] = frozenset()  # somebody there took a connection
    main: Optional[Network] = None
    elsewhere: bool = False  # DMI says that this is no machine of CloudStack's

    def proves(self, server: PasswordServer) -> bool:
        """Whether the server's own address gave this instance's id."""
        return sender(server) in self.ours


def sender(server: PasswordServer) -> Sender:
    """What evidence of port 80 is held against."""
    return server.endpoint.address, server.endpoint.source


def doubt(server: PasswordServer, reply: PasswordReply, trust: Trust) -> Optional[str]:
    """Why an answer of this server is not believed; None where it is.

    (a) The address itself gave this instance's id. Or the lease of its NIC names it, and (b) the reply is
    signed as CloudStack's, and the router of that NIC is believed, or no router at all is, the NIC is the
    main one, and nobody there answers on port 80: redundant routers serve it on the gateway, and one of them
    may be down. Or (c) the reply has no header, as those of releases before 4.5.1, it is the DHCP server's,
    and nobody answers there.
    """
    if sender(server) in trust.others:
        return "its own metadata is not this VM's"
    if trust.proves(server):
        return None
    if not server.named:
        return "no lease names that address, and it has not given this VM's instance id"
    if server.network in trust.believed:
        return (
            None if reply.signed else "not signed by CloudStack, and it has not given this VM's instance id"
        )
    if trust.believed:
        # Anybody can sign. Where a router has proved who it is, its own network is where the password is.
        return "no metadata is believed on its network, and there is some on another"
    if server.network != trust.main:
        return "no metadata is believed anywhere, and its NIC is not the one with the default route"
    if server.network in trust.answering:
        return "somebody answers on port 80 of its network, and is not believed"
    if reply.signed or (reply.bare and server.dhcp and not trust.elsewhere):
        return None
    return "not signed by CloudStack, and no metadata is believed on its network"


def offers(answers: Sequence[Answered], trust: Trust) -> PasswordOffer:
    """What the answers, best-ranked server first, come to.

    Where an address that gave this instance's id has nothing, only another such one's offer counts. Among
    the rest one offer outweighs any number of servers with nothing: of redundant routers only one has it.
    """
    believed = [(server, reply) for server, reply in answers if doubt(server, reply, trust) is None]
    proven = [(server, reply) for server, reply in believed if trust.proves(server)]
    if any(reply.state == "none" for _, reply in proven):
        believed = proven
    offered = [(server, reply) for server, reply in believed if reply.state == "offered"]
    if offered:
        best, first = offered[0]
        same = tuple(server.endpoint for server, reply in offered if reply.value == first.value)
        others = [server.place for server, reply in offered if reply.value != first.value]
        reason = f"{', '.join(others)} offered a different one and ranks lower" if others else ""
        return PasswordOffer("offered", first.value, best.place, reason, same)
    nothing = [(server, reply) for server, reply in believed if reply.state == "none"]
    if nothing:
        server, reply = nothing[0]
        told = tuple(one.endpoint for one, _ in nothing)
        return PasswordOffer("none", None, server.place, reply.reason, told)
    reasons = [
        f"{server.place}: {doubt(server, reply, trust) if reply.state != 'unknown' else reply.reason}"
        for server, reply in answers
    ]
    return PasswordOffer("unknown", None, "", "; ".join(reasons) or "no password server to ask")


def places(answers: Sequence[Answered], trust: Trust) -> Tuple[Place, ...]:
    """The answers as places, without a byte of any password."""
    offer = offers(answers, trust)
    return tuple(_place(server, reply, offer, trust) for server, reply in answers)


def _place(server: PasswordServer, reply: PasswordReply, offer: PasswordOffer, trust: Trust) -> Place:
    outcome, detail = reply.outcome, reply.reason
    if reply.state != "unknown":
        reason = doubt(server, reply, trust)
        if reason is not None:
            outcome, detail = "foreign", f"not believed: {reason}"
        elif reply.state == "offered" and offer.state == "none":
            outcome, detail = "foreign", f"not believed: {offer.place} gave the instance id and has nothing"
        elif reply.state == "offered" and server.endpoint not in offer.endpoints:
            detail = f"a different password than the better-ranked {offer.place}"
    return Place(server.place, server.why, outcome, detail, reply.seconds)
