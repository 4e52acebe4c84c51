"""Whether a NIC has what it was given, by the kernel's own word.

Exit codes lie (field/network-data#N33, #N34, #N45).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from csagent.apply.network import kernel, probe
from csagent.apply.network.plan import Wanted
from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.apply.network.kernel_state import Kernel
    from csagent.system.seams import System

PATIENCE = 10.0  # seconds until addresses and routes are there
LONGEST = 30.0  # seconds, where the NIC goes on changing: somebody else reloads, too (field/network-data#N62)
LOOKS = 40  # at least: on a machine that is slow a look takes longer, and so does everything else
PAUSE = 0.1
STEADY = 5  # looks in a row: a reload is heard at once and done a moment later, in which all is as it was


def missing(seen: "Kernel", wanted: Wanted, gone: Sequence[str] = ()) -> Tuple[str, ...]:
    """What is not yet as it shall be, each in a few words; empty: all is.

    Args:
        seen: the kernel's state.
        wanted: what the NIC shall have.
        gone: addresses that it had from csagent and shall not have any more.
    """
    link = seen.link(wanted.interface)
    if link is None:
        return (f"there is no {wanted.interface}",)
    found: List[str] = []
    there = {one.address: one for one in seen.addresses.get(link.ifindex, ())}
    for address in wanted.addresses:
        one = there.get(address)
        if one is None:
            found.append(f"it does not have {address}")
        elif one.duplicate:
            found.append(f"another machine has {address}")
        elif one.tentative:
            found.append(f"{address} is not its own yet")
    found += [f"it still has {address}" for address in gone if address in there]
    hops = seen.routes.get(link.ifindex, ())
    for route in wanted.routes:
        if not any(hop == (route.version, route.via, route.metric) for hop in hops):
            found.append(f"it has no default route via {route.via} with metric {route.metric}")
    if wanted.mtu is not None and link.mtu != wanted.mtu:
        found.append(f"its mtu is {link.mtu}, not {wanted.mtu}")
    return tuple(found)


def settle(system: "System", wanted: Wanted, gone: Sequence[str] = ()) -> Tuple[str, ...]:
    """Wait until a NIC has all that it was given; what is still missing at the end, as `missing` says it.

    Raises:
        ApplyError: the kernel does not say what there is.
    """
    now = system.clock.monotonic()
    end, last = now + PATIENCE, now + LONGEST
    looks = steady = 0
    before: Optional[Tuple[object, ...]] = None
    while True:
        seen = kernel.look(system)
        lacking = missing(seen, wanted, gone)
        looks += 1
        state = _state(seen, wanted.interface)
        if before is not None and state != before:  # by us, or by somebody else's reload
            end = min(system.clock.monotonic() + PATIENCE, last)
        before = state
        steady = 0 if lacking else steady + 1
        if steady == STEADY or (looks >= LOOKS and system.clock.monotonic() >= end):
            return lacking
        system.clock.sleep(PAUSE)


def _state(seen: "Kernel", interface: str) -> Tuple[object, ...]:
    """What of a NIC a reload changes."""
    link = seen.link(interface)
    if link is None:
        return ()
    return link.mtu, seen.addresses.get(link.ifindex), seen.routes.get(link.ifindex)


def answering(system: "System", interface: str) -> Dict[str, str]:
    """The gateways that a NIC has now and that answer, by "4" and "6": the state to go back to.

    Raises:
        ApplyError: the kernel does not say what there is.
    """
    seen = kernel.look(system)
    link = seen.link(interface)
    if link is None or not any(not one.link_local for one in seen.addresses.get(link.ifindex, ())):
        return {}
    gateways: Dict[str, str] = {}
    for hop in sorted(seen.routes.get(link.ifindex, ()), key=lambda hop: hop.metric):
        if hop.gateway is not None:
            gateways.setdefault(str(hop.version), hop.gateway)
    quiet = probe.silent(system, link.ifindex, tuple(gateways.values()))
    return {version: gateway for version, gateway in gateways.items() if gateway not in quiet}


def ifindex_of(system: "System", interface: str) -> int:
    """The index of a NIC by its name.

    Raises:
        ApplyError: it is not there.
    """
    link = kernel.look(system).link(interface)
    if link is None:
        raise ApplyError(f"there is no {interface}")
    return link.ifindex
