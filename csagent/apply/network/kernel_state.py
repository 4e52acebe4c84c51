"""What the kernel has: Ethernet links, their addresses and default routes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Mapping, NamedTuple, Optional, Tuple

from csagent.apply.network.machine import Assigned, Hop


class LinkSeen(NamedTuple):
    """An Ethernet link.

    `kind` is what made it ("vlan", "bond"), None for a real NIC. `permanent` is the MAC address of its
    hardware, which its host knows it by; None where the kernel does not say (veth has none).
    """

    name: str
    ifindex: int
    mac: str
    mtu: Optional[int] = None
    max_mtu: Optional[int] = None
    master: Optional[str] = None
    kind: Optional[str] = None
    permanent: Optional[str] = None

    @property
    def own_mac(self) -> str:
        """The MAC address that it has by itself, whatever somebody or a bond has given it."""
        return self.permanent or self.mac


class Kernel(NamedTuple):
    """One look. Addresses and routes are by the link's index."""

    links: Tuple[LinkSeen, ...] = ()
    addresses: Mapping[int, Tuple[Assigned, ...]] = MappingProxyType({})
    routes: Mapping[int, Tuple[Hop, ...]] = MappingProxyType({})

    def link(self, name: str) -> Optional[LinkSeen]:
        """The link of this name."""
        return next((link for link in self.links if link.name == name), None)

    def global_addresses(self, link: LinkSeen) -> Tuple[Assigned, ...]:
        """Those of a link that are not its own making."""
        return tuple(one for one in self.addresses.get(link.ifindex, ()) if not one.link_local)
