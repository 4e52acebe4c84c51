"""systemd-networkd, through networkctl(1): reload, and reconfigure where that was not enough.

Never a restart of its service: 252 kept the former address beside the new one (field/network-data#N32, and
#N36).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from csagent.apply.network.managers.commands import must
from csagent.apply.network.renderers import networkd

if TYPE_CHECKING:
    from csagent.system.seams import System

PATIENCE = 30.0  # seconds; D-Bus itself gives up after 25


class Networkd:
    """The system, about one NIC."""

    def __init__(self, interface: str, mac: str) -> None:
        self.interface, self.mac = interface, mac

    def guard(self, _system: "System") -> Optional[str]:
        return None  # it has nothing of the kind; what was before is in csagent's own record

    def take(self, system: "System") -> None:
        must(system, ("networkctl", "reload"), PATIENCE)

    def repair(self, system: "System") -> None:
        must(system, ("networkctl", "reconfigure", self.interface), PATIENCE)

    def keep(self, _system: "System", _token: Optional[str]) -> None:
        return

    def go_back(self, _system: "System", _token: Optional[str]) -> None:
        return

    def restored(self, system: "System", mtu: Optional[int]) -> None:
        if mtu is not None:
            self._set_mtu(system, mtu)
        self.take(system)

    def _set_mtu(self, system: "System", mtu: int) -> None:
        """The MTU of a file that is taken away stays, and csagent may not set it: once more by a file.

        A file of ours that was there before says its own (field/network-data#N35).
        """
        path = networkd.path(self.mac)
        if system.tree.exists(path):
            return
        text = f"[Match]\nMACAddress={self.mac}\nType=ether\n\n[Link]\nMTUBytes={mtu}\n"
        system.tree.write(path, text.encode(), networkd.MODE)
        try:
            self.take(system)
        finally:
            system.tree.remove(path)
