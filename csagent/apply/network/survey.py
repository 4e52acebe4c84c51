"""The machine as it is: its Ethernet devices, who is in charge of each, and what csagent wrote before."""

from __future__ import annotations

import re
from typing import Dict, Iterable, Mapping, Optional, Sequence, Tuple

from csagent.apply.network import kernel, owners, renderers, resolver
from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.machine import Device, Machine, Owner
from csagent.apply.network.owners import units
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager
from csagent.model import Lease
from csagent.system.seams import Completed, Runner, System
from csagent.system.tree import READ_LIMIT

NICS = (None, "veth", "dummy")  # who made the link: nobody; veth is a container's NIC, dummy a test's
_HEXADECIMAL = re.compile(r"[0-9a-f]{12}\Z", re.ASCII)


class _AskedOnce(Runner):
    """The commands of one look: what is asked about all NICs is not asked again for each of them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._said: Dict[Tuple[str, ...], Completed] = {}

    def available(self, program: str) -> bool:
        return self._runner.available(program)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = READ_LIMIT
    ) -> Completed:
        words = tuple(argv)
        if words not in self._said:
            self._said[words] = self._runner.run(argv, stdin=stdin, timeout=timeout, limit=limit)
        return self._said[words]


def survey(system: System, leases: Sequence[Lease], wanted: Optional[Iterable[str]] = None) -> Machine:
    """Look at everything that the decision needs; nobody is contacted but the machine's own daemons.

    Args:
        system: the machine, or a tree.
        leases: the DHCP leases that hold.
        wanted: ask the daemons about the NICs with these MAC addresses only; None: about all.

    Raises:
        ApplyError: the kernel does not say what there is.
    """
    system = system._replace(runner=_AskedOnce(system.runner))
    seen = kernel.look(system)
    known = units.find(system)
    asked = None if wanted is None else set(wanted)
    by_name = {lease.interface: f"{lease.address}, by {lease.client}" for lease in leases}
    nics = [link for link in seen.links if link.kind in NICS]
    devices = [
        _device(
            seen,
            link,
            nics,
            by_name.get(link.name),
            owners.find(system, known, link) if asked is None or link.own_mac in asked else Owner(),
        )
        for link in nics
    ]
    since_boot = system.clock.monotonic() if system.live else float("inf")
    machine = Machine(tuple(devices), resolver=resolver.find(system, known), since_boot=since_boot)
    return with_files(system, machine)


def with_files(system: System, machine: Machine) -> Machine:
    """The machine, and what is in the files that csagent has a part in."""
    return machine._replace(
        written={**machine.written, **written(system)},
        interfaces=system.tree.read_text(ifupdown.PATH) or "",
        resolv_conf=system.tree.read_text(resolver.PATH) or "",
    )


def _device(
    seen: Kernel, link: LinkSeen, nics: Sequence[LinkSeen], lease: Optional[str], owner: Owner
) -> Device:
    twins = [one.name for one in nics if one.mac == link.mac and one is not link]
    return Device(
        link.name,
        link.own_mac,
        link.ifindex,
        link.mtu,
        link.max_mtu,
        link.master,
        twins[0] if twins else None,
        tuple(seen.addresses.get(link.ifindex, ())),
        tuple(seen.routes.get(link.ifindex, ())),
        lease,
        owner,
        link.mac if link.mac != link.own_mac else None,
    )


def written(system: System) -> Mapping[str, Mapping[str, str]]:
    """The files of ours, by the MAC address of their NIC: the fingerprint of each."""
    found: Dict[str, Dict[str, str]] = {}

    def add(mac: str, path: str) -> None:
        text = system.tree.read_text(path) or ""
        found.setdefault(mac, {})[path] = renderers.fingerprint(mac, path, text)

    for renderer in (networkd, networkmanager):
        for path in system.tree.glob(renderer.PATTERN):
            name = path.rpartition("/")[2][len(renderer.PREFIX) :].partition(".")[0]
            if _HEXADECIMAL.match(name):
                add(":".join(name[place : place + 2] for place in range(0, 12, 2)), path)
    for mac in ifupdown.blocks_of(system.tree.read_text(ifupdown.PATH) or ""):
        add(mac, ifupdown.PATH)
    return found
