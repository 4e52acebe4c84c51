"""Who reaches the places that a pass has asked: any user of the machine, or root alone.

csagent asks as a user without rights, and firewalls and routing rules may go by the user (`meta skuid`,
`-m owner`, `ip rule ... uidrange`). Only connections are opened here, and nothing is said over them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Tuple

from csagent import validation
from csagent.discovery.candidates import DATA_SERVER
from csagent.doctor.checks.places import PASSWORD_SERVER, ROUTER, address, kind
from csagent.errors import JailError
from csagent.model import Endpoint, Observed, Place
from csagent.sandbox import jail

if TYPE_CHECKING:
    from csagent.sources.request import Options
    from csagent.system.seams import Dialer, System

CONNECT_SECONDS = 2.0
SOMEBODY = 65533  # a user that no machine gives to anybody; nobody may be whom csagent runs as
NOT_REACHED = ("unreachable", "refused", "timeout")
RESENT = 1.0  # seconds until a SYN is sent again (RFC 6298, 2.1): an earlier end says nothing of a firewall


def open_to_all(system: "System", observed: Observed, options: "Options") -> Tuple[str, ...]:
    """The password servers that answered ("10.1.1.1:8080"), where a user who is nobody can connect, too.

    From the address and over the NIC that the pass had asked from: whoever comes from elsewhere asks as
    another VM, or somebody else who has that address.
    """
    believed = (
        place for place in observed.observation.places if kind(place) == PASSWORD_SERVER and place.believed
    )
    servers = _endpoints(observed, options, believed)
    dialer = _dialer(system, options)

    def work(_prepared: None, _say: jail.Send) -> List[str]:
        found = []
        for endpoint in servers:
            deadline = system.clock.monotonic() + CONNECT_SECONDS
            with suppress(OSError, ValueError, OverflowError), dialer.connect(endpoint, deadline):
                found.append(_shown(endpoint))
        return found

    if not servers:
        return ()
    somebody = jail.Identity(SOMEBODY, SOMEBODY)
    patience = CONNECT_SECONDS * len(servers) + 1.0
    with suppress(JailError):
        told = jail.run(jail.Job("somebody", system, lambda: None, work, jail.READER, somebody), patience)
        return tuple(one for one in map(_shown, servers) if one in told)
    return ()


def to_root_only(system: "System", observed: Observed, options: "Options") -> Tuple[str, ...]:
    """The places ("10.1.1.1:80") that did not answer csagent's user, and do take root's connection.

    All are tried at once, each from the address and NIC that the pass had asked it from.
    """
    from csagent.sources.router.threads import in_parallel

    asked = _endpoints(observed, options, _not_reached(observed))
    dialer = _dialer(system, options)
    deadline = system.clock.monotonic() + CONNECT_SECONDS

    def connects(endpoint: Endpoint) -> bool:
        try:
            with dialer.connect(endpoint, deadline):
                return True
        except (OSError, ValueError, OverflowError):
            return False

    connected = in_parallel(connects, asked, len(asked), deadline)
    return tuple(_shown(one) for one, good in zip(asked, connected) if good)


def _not_reached(observed: Observed) -> Iterator[Place]:
    """The places that were asked in vain."""
    for place in observed.observation.places:
        asked = kind(place) in (ROUTER, PASSWORD_SERVER) and place.outcome in NOT_REACHED
        hurried = place.outcome == "timeout" and place.seconds is not None and place.seconds < RESENT
        if asked and not hurried:
            yield place


def _endpoints(observed: Observed, options: "Options", places: Iterable[Place]) -> List[Endpoint]:
    """Where these places were asked; a name that was not resolved has no endpoint.

    They come from a child that has read what others sent: as in the pass, its candidates and its two ports
    alone are tried, and this machine only where it was named on the command line (`_dialer`).
    """
    found: Dict[Endpoint, None] = {}
    for place in places:
        host, port = address(place)
        if not validation.address(host):
            continue
        for candidate in observed.found.candidates:
            if candidate.address not in (host, DATA_SERVER):
                continue
            metadata = kind(place) == ROUTER
            own = candidate.metadata_endpoint(host) if metadata else candidate.password_endpoint(host)
            if str(own.port) == port:
                if own.port in options.ports:
                    found[own] = None
                break
    return list(found)


def _dialer(system: "System", options: "Options") -> "Dialer":
    from csagent.sources.router.egress import CheckedDialer

    return system.dialer if options.router is not None else CheckedDialer(system.dialer)


def _shown(endpoint: Endpoint) -> str:
    return f"{endpoint.address}:{endpoint.port}"
