"""Telling a running configuration system that its files have changed, and taking that back.

Exit codes say little: what was applied is looked up in the kernel by whoever calls this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Protocol

from csagent.apply.network.machine import IFUPDOWN, NETWORKD, NETWORKMANAGER

if TYPE_CHECKING:
    from csagent.apply.network.plan import Wanted
    from csagent.system.seams import System


class Manager(Protocol):
    """One configuration system, about one NIC.

    Each raises ApplyError where it cannot be told: it is not there, or does not answer.
    """

    def guard(self, system: "System") -> Optional[str]:
        """Before the files are written: have the system go back by itself if we die; a token, or None."""

    def take(self, system: "System") -> None:
        """The files are written: read them, and configure the NIC by them."""

    def repair(self, system: "System") -> None:
        """Something is missing after `take`: once more, from nothing."""

    def keep(self, system: "System", token: Optional[str]) -> None:
        """It is confirmed: do not go back."""

    def go_back(self, system: "System", token: Optional[str]) -> None:
        """It is not: go back, where the system can do that by itself. The files are restored after it."""

    def restored(self, system: "System", mtu: Optional[int]) -> None:
        """The former files are back: configure the NIC by them. `mtu` is what it had; None: it is right."""


def of(name: str, interface: str, mac: str, wanted: Optional["Wanted"] = None) -> Manager:
    """The manager of this name, for one NIC.

    Raises:
        ValueError: csagent writes no files for it.
    """
    if name == NETWORKD:
        from csagent.apply.network.managers.networkd import Networkd

        return Networkd(interface, mac)
    if name == NETWORKMANAGER:
        from csagent.apply.network.managers.networkmanager import NetworkManager

        return NetworkManager(interface, mac)
    if name == IFUPDOWN:
        from csagent.apply.network.managers.ifupdown import Ifupdown

        return Ifupdown(interface)
    raise ValueError(name)
