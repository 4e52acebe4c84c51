"""Where could CloudStack's data be? Leases, NICs, default routes, drives, DMI. Contacts nobody."""

from __future__ import annotations

import os
from typing import Hashable, List, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.candidates import Resolver
from csagent.discovery.drives import BY_LABEL, SYS_BLOCK, Volumes, decoded, udev_runs
from csagent.discovery.leases import dhclient
from csagent.discovery.leases.belief import CLIENTS, Belief, believe, statements
from csagent.discovery.leases.client import RawLeases, gather, reread
from csagent.model import Found, Nic, Platform, Route
from csagent.system.seams import System

MAX_REJECTED = 100  # an appended file can name thousands of interfaces that are gone
SECOND_LOOKS = 5  # after an address has appeared and before dhclient's block says so
SECOND_LOOK_PAUSE = 0.1  # seconds


class Evidence(NamedTuple):
    """What only root can read: the lease files, DMI's UUID, and the labels of devices without udev."""

    leases: RawLeases
    platform: Platform = Platform()
    volumes: Optional[Volumes] = None
    resolvers: Tuple[Resolver, ...] = ()


def prepare(system: System, named: Sequence[str] = ()) -> Evidence:
    """Collect what needs root; parses nothing but three short DMI strings and ISO labels.

    Args:
        system: whose.
        named: the setting `drive_devices`.
    """
    from csagent.discovery import resolv_conf
    from csagent.discovery.dmi import read_dmi
    from csagent.discovery.drives import read_volumes

    without_udev = system.live and not udev_runs(system)
    return Evidence(
        leases=gather(system, CLIENTS),
        platform=read_dmi(system),
        volumes=read_volumes(system, named) if without_udev else None,
        resolvers=resolv_conf.read(system),
    )


def warm_up() -> None:
    """Import all that `look` needs: the child may lose the right to read Python's own files."""
    import json  # noqa: F401
    import socket  # noqa: F401
    import subprocess  # noqa: F401

    from csagent.discovery import candidates, drives, interfaces, netlink, resolv_conf  # noqa: F401

    try:
        import netifaces  # noqa: F401
    except ImportError:
        pass  # `interfaces` reads rtnetlink then


def look(
    system: System,
    evidence: Evidence,
    labels: Sequence[str],
    *,
    with_drives: bool = True,
    named: Sequence[str] = (),
) -> Found:
    """Judge the evidence, as nobody, and list the places to ask.

    Args:
        system: the system that the evidence is of.
        evidence: what `prepare` has collected.
        labels: labels of a config drive.
        with_drives: False leaves the drives out.
        named: the setting `drive_devices`.
    """
    from csagent import validation
    from csagent.discovery import drives, interfaces, netlink, resolv_conf
    from csagent.discovery.candidates import candidates

    nics, routes, belief = _believe(system, evidence.leases)
    own = {address for nic in nics for address in nic.addresses}
    resolver = resolv_conf.elsewhere(evidence.resolvers, own)
    default, guesses = interfaces.default_interface(routes, belief.leases, nics)
    notes = list(belief.notes + guesses)
    if belief.leases and not interfaces.addresses_known(system):
        notes.append(
            "this tree does not say which addresses its NICs have: leases are taken as they were written"
        )
    if default is not None and default not in {lease.interface for lease in belief.leases}:
        notes.append(
            f"no DHCP lease holds on {default}: its router and the machine's name servers are all there is"
        )
    for path, reason in evidence.leases.unread.items():
        notes.append(f"{path} could not be read: {reason}")
    labelled = drives.drives(system, labels, evidence.volumes, named) if with_drives else ()
    left = {drive.device: drives.why_not_node(system, drive.device, named) for drive in labelled}
    notes += [f"{device} carries the label and is not read: {why}" for device, why in left.items() if why]
    return Found(
        nics=nics,
        routes=routes,
        default_interface=default,
        leases=belief.leases,
        rejected=belief.rejected[:MAX_REJECTED],
        candidates=tuple(
            one
            for one in candidates(nics, routes, belief.leases, default, resolver)
            if not (system.live and validation.ipv4(one.address) and netlink.route_to(one.address).local)
        ),
        drives=tuple(drive for drive in labelled if not left[drive.device]),
        platform=evidence.platform,
        notes=tuple(notes),
    )


def _believe(system: System, raw: RawLeases) -> Tuple[Tuple[Nic, ...], Tuple[Route, ...], Belief]:
    from csagent.discovery import interfaces

    known = interfaces.addresses_known(system)
    looks = 0
    while True:
        nics, routes = interfaces.nics(system), interfaces.routes(system)
        said = statements(raw, nics)
        belief = believe(said, nics, system.clock.now(), addresses_known=known)
        late = _late(raw, nics, belief) if system.live and looks < SECOND_LOOKS else []
        if not late:
            return nics, routes, belief
        system.clock.sleep(SECOND_LOOK_PAUSE)
        reread(system, raw, late)
        looks += 1


def _late(raw: RawLeases, nics: Sequence[Nic], belief: Belief) -> List[str]:
    """Files of a running dhclient whose newest block is not about the address that a NIC has now.

    dhclient sets the address about 6 ms before it writes the block: an event for the new address can
    find yesterday's lease.
    """
    from csagent.discovery.leases.text import routable

    if not dhclient.running(raw):
        return []
    waiting = {nic.name for nic in nics if routable(nic)} - {lease.interface for lease in belief.leases}
    return [one.path for one in belief.rejected if one.client == dhclient.NAME and one.interface in waiting]


def lease_patterns() -> Tuple[str, ...]:
    """Shell patterns of the lease files of every DHCP client."""
    return tuple(dict.fromkeys(pattern for client in CLIENTS for pattern in client.FILES))


def watchmarks(system: System, labels: Sequence[str]) -> Tuple[Hashable, ...]:
    """A fingerprint that changes when a lease, an address, a NIC or a drive does. No file is parsed."""
    return network_marks(system) + drive_marks(system, labels)


def network_marks(system: System) -> Tuple[Hashable, ...]:
    """The stat of every lease file, the routing table, and the names of the NICs."""
    tree = system.tree
    marks: List[Hashable] = []
    paths = [path for pattern in lease_patterns() for path in tree.glob(pattern)]
    for path in (*sorted(set(paths)), "/run/systemd/netif/links", "/run/NetworkManager/devices"):
        status = tree.stat(path)
        if status is not None:
            marks.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    marks.append(_proc_routes(system))
    marks.append(tree.read_text("/proc/net/fib_trie"))  # every address, of which a route need not tell
    marks.append(tuple(tree.names("/sys/class/net")))
    return tuple(marks)


def drive_marks(system: System, labels: Sequence[str]) -> Tuple[Hashable, ...]:
    """What udev says of the labels; without udev, the sizes of the block devices."""
    tree = system.tree
    marks: List[Hashable] = []
    wanted = {label.casefold() for label in labels}
    for name in tree.names(BY_LABEL):
        if decoded(name).casefold() in wanted:
            marks.append((name, *_link(system, f"{BY_LABEL}/{name}")))
    if system.live and not udev_runs(system):
        marks.extend((name, tree.read_text(f"{SYS_BLOCK}/{name}/size", 32)) for name in tree.names(SYS_BLOCK))
    return tuple(marks)


def may_have_candidates(system: System) -> bool:
    """A cheap hint: without a route and without an address there is nobody to ask.

    /proc/net/route has the main table only; a NIC's routes may be in another (policy routing, VRF).
    """
    if len(_proc_routes(system).splitlines()) > 1:
        return True
    lines = (system.tree.read_text("/proc/net/fib_trie") or "").splitlines()
    return any(
        "host LOCAL" in after and not line.strip(" |-").startswith("127.")
        for line, after in zip(lines, lines[1:])
    )


def _proc_routes(system: System) -> bytes:
    try:
        return system.tree.read("/proc/net/route")
    except OSError:
        return b""


def _link(system: System, path: str) -> Tuple[Hashable, ...]:
    """Where a symbolic link points, and when udev last wrote it: a new medium may leave the target alone."""
    try:
        directory, name = system.tree.resolve(path, follow=False)
    except OSError:
        return ()
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return os.readlink(name, dir_fd=directory), status.st_mtime_ns, status.st_ino
    except OSError:
        return ()
    finally:
        os.close(directory)
