"""The machine's Ethernet devices as they are, and who is in charge of each: facts that `decide` judges."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

from csagent.model import NOTHING

NETWORKD = "systemd-networkd"
NETWORKMANAGER = "NetworkManager"
IFUPDOWN = "ifupdown"
MANAGERS = (NETWORKD, NETWORKMANAGER, IFUPDOWN)
"""The configuration systems that csagent writes files for."""

RESOLVED, RESOLVCONF, PLAIN = "systemd-resolved", "resolvconf", "file"
"""Who has /etc/resolv.conf, beside NETWORKMANAGER: PLAIN is nobody but people."""


class Assigned(NamedTuple):
    """An address that a device has now, "10.7.0.21/24".

    `permanent` is one that no lease and no router advertisement limits; `tentative` one whose uniqueness
    the kernel is still asking for; `duplicate` one that another machine has.
    """

    address: str
    permanent: bool = True
    tentative: bool = False
    duplicate: bool = False
    link_local: bool = False


class Hop(NamedTuple):
    """A default route that a device has now, by IP version. A gateway of None is the link itself."""

    version: int
    gateway: Optional[str]
    metric: int = 0


class Owner(NamedTuple):
    """Who is in charge of a device.

    `manager` is one of MANAGERS, or another one's name, or None: nobody. `against` says why csagent leaves
    the device alone. `ours`: a file of csagent's is what it is configured by. `starting`: the manager is
    enabled and not up yet, or there is none to ask (a tree): files are written and nobody is told.
    """

    manager: Optional[str] = None
    against: Optional[str] = None
    ours: bool = False
    starting: bool = False
    raised: bool = False  # ifupdown: a line of somebody's brings the NIC up at boot
    how: str = ""  # what configures it now: "DHCP by /run/systemd/network/10-netplan-all.network"


class Device(NamedTuple):
    """An Ethernet device.

    `mac` is its own, by which CloudStack knows it; `given` another one, which it has now. `part_of` names the
    bond or bridge it is in, `twin` another device with its MAC address.
    """

    name: str
    mac: str
    ifindex: int = 0
    mtu: Optional[int] = None
    max_mtu: Optional[int] = None
    part_of: Optional[str] = None
    twin: Optional[str] = None
    addresses: Tuple[Assigned, ...] = ()
    routes: Tuple[Hop, ...] = ()
    lease: Optional[str] = None  # the address of a live DHCP lease, and whose it is
    owner: Owner = Owner()
    given: Optional[str] = None


class Machine(NamedTuple):
    """All devices, and what else the decision needs to know.

    `written` has the files that csagent has written before: by MAC address, the path of each and its
    fingerprint as it is now. `interfaces` is the text of ifupdown's, which NICs share. `resolver` is who has
    /etc/resolv.conf, `resolv_conf` its text.
    """

    devices: Tuple[Device, ...] = ()
    written: Mapping[str, Mapping[str, str]] = NOTHING
    interfaces: str = ""
    resolver: str = ""
    resolv_conf: str = ""
    since_boot: float = float("inf")  # seconds

    def device(self, mac: str) -> Optional[Device]:
        """The device with this MAC address."""
        return next((device for device in self.devices if device.mac == mac), None)
