"""Who reaches the places that a pass has asked: any user of the machine, or root alone.

csagent asks as a user without rights, and firewalls and routing rules may go by the user (`meta skuid`,
`-m owner`, `ip rule ... uidrange`). Only connections are opened here, and nothing is said over them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Iterator, List, Tuple

from csagent import validation
from csagent.discovery.candidates import DATA_SERVER
from csagent.doctor.checks.places import PASSWORD_SERVER, ROUTER, address, kind
from csagent.errors import JailError
from csagent.model import Endpoint, Observed
from csagent.sandbox import jail

if TYPE_CHECKING:
    from csagent.sources.request import Options
    from csagent.system.seams import System

CONNECT_SECONDS = 2.0
SOMEBODY = 65533  # a user that no machine gives to anybody; nobody may be whom csagent runs as
NOT_REACHED = ("unreachable", "refused", "timeout")
RESENT = 1.0  # seconds until a SYN is sent again (RFC 6298, 2.1): an earlier end says nothing of a firewall


def open_to_all(system: "System", observed: Observed) -> Tuple[str, ...]:
    """The password servers that answered ("10.1.1.1:8080"), where a user who is nobody can connect, too."""
    asked = [
        place for place in observed.observation.places if kind(place) == PASSWORD_SERVER and place.believed
    ]
    servers = dict.fromkeys(address(place) for place in asked)

    def work(_prepared: None, _say: jail.Send) -> List[str]:
        import socket

        found = []
        for host, port in servers:
            with suppress(OSError), socket.create_connection((host, int(port)), CONNECT_SECONDS):
                found.append(f"{host}:{port}")
        return found

    if not servers:
        return ()
    somebody = jail.Identity(SOMEBODY, SOMEBODY)
    patience = CONNECT_SECONDS * len(servers) + 1.0
    with suppress(JailError):
        told = jail.run(jail.Job("somebody", system, lambda: None, work, jail.READER, somebody), patience)
        return tuple(one for one in map("{0[0]}:{0[1]}".format, servers) if one in told)
    return ()


def to_root_only(system: "System", observed: Observed, options: "Options") -> Tuple[str, ...]:
    """The places ("10.1.1.1:80") that did not answer csagent's user, and do take root's connection.

    All are tried at once, each from the address and NIC that the pass had asked it from. They come from a
    child that has read what others sent: as in the pass, its two ports alone are tried, and this machine only
    where it was named on the command line.
    """
    from csagent.sources.router.egress import CheckedDialer
    from csagent.sources.router.threads import in_parallel

    asked = [one for one in dict.fromkeys(_not_reached(observed)) if one.port in options.ports]
    dialer = system.dialer if options.router is not None else CheckedDialer(system.dialer)
    deadline = system.clock.monotonic() + CONNECT_SECONDS

    def connects(endpoint: Endpoint) -> bool:
        try:
            with dialer.connect(endpoint, deadline):
                return True
        except (OSError, ValueError, OverflowError):
            return False

    connected = in_parallel(connects, asked, len(asked), deadline)
    return tuple(f"{one.address}:{one.port}" for one, good in zip(asked, connected) if good)


def _not_reached(observed: Observed) -> Iterator[Endpoint]:
    """The endpoints of the places that were asked in vain; a name that was not resolved has none."""
    candidates = observed.found.candidates
    for place in observed.observation.places:
        host, port = address(place)
        asked = kind(place) in (ROUTER, PASSWORD_SERVER) and place.outcome in NOT_REACHED
        hurried = place.outcome == "timeout" and place.seconds is not None and place.seconds < RESENT
        if not asked or hurried or not validation.address(host):
            continue
        for candidate in candidates:
            if candidate.address not in (host, DATA_SERVER):
                continue
            metadata = kind(place) == ROUTER
            own = candidate.metadata_endpoint(host) if metadata else candidate.password_endpoint(host)
            if str(own.port) == port:
                yield own
                break
