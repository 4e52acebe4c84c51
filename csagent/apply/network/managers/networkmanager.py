"""NetworkManager, through nmcli(1), and its checkpoints through busctl(1).

See field/network-data#N45 to #N47.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List, Optional

from csagent.apply.network.managers.commands import must
from csagent.apply.network.owners.networkmanager import DEVICES, rows
from csagent.apply.network.renderers import networkmanager
from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.system.seams import System

PATIENCE = 20.0  # seconds for one command
ACTIVATION = 10  # seconds that nmcli waits for an activation
ROLLBACK = 180  # seconds after which NetworkManager goes back by itself: longer than any look of ours takes

SERVICE = "org.freedesktop.NetworkManager"
OBJECT = "/org/freedesktop/NetworkManager"
_PATH = re.compile(r'"(/org/freedesktop/NetworkManager/[A-Za-z]+/[0-9]+)"')


class NetworkManager:
    """The system, about one NIC."""

    def __init__(self, interface: str, mac: str) -> None:
        self.interface, self.mac = interface, mac
        self.uuid = networkmanager.uuid(mac)

    def guard(self, system: "System") -> Optional[str]:
        """A checkpoint of the NIC; one of ours that a killed csagent has left is given up first."""
        device = self._device(system)
        for left in self._checkpoints(system, device):
            self._call(system, "CheckpointDestroy", "o", left)
        made = self._call(system, "CheckpointCreate", "aouu", "1", device, str(ROLLBACK), "0")
        found = _PATH.search(made)
        if found is None:
            raise ApplyError(f"NetworkManager made no checkpoint: {made.strip()}")
        return found.group(1)

    def take(self, system: "System") -> None:
        self._load(system)
        if self._is_active(system):
            must(system, ("nmcli", "device", "reapply", self.interface), PATIENCE)
        else:
            self._up(system)

    def repair(self, system: "System") -> None:
        self._load(system)
        self._up(system)

    def keep(self, system: "System", token: Optional[str]) -> None:
        """The checkpoint is given up. Where it is gone NetworkManager has gone back by itself."""
        if token is not None:
            self._call(system, "CheckpointDestroy", "o", token)

    def go_back(self, system: "System", token: Optional[str]) -> None:
        if token is not None:
            self._call(system, "CheckpointRollback", "o", token)

    def restored(self, system: "System", mtu: Optional[int]) -> None:
        """Read what is on the disk again; without a profile of ours another one is taken for the NIC."""
        must(system, ("nmcli", "connection", "reload"), PATIENCE)
        if system.tree.exists(networkmanager.path(self.mac)):
            self.repair(system)

    def _load(self, system: "System") -> None:
        must(system, ("nmcli", "connection", "load", networkmanager.path(self.mac)), PATIENCE)

    def _up(self, system: "System") -> None:
        words = ("nmcli", "-w", str(ACTIVATION), "connection", "up", "uuid", self.uuid)
        must(system, (*words, "ifname", self.interface), PATIENCE)

    def _is_active(self, system: "System") -> bool:
        output = must(system, DEVICES, PATIENCE).encode()
        return any(row[0] == self.interface and row[3] == self.uuid for row in rows(output, 4))

    def _device(self, system: "System") -> str:
        found = _PATH.search(self._call(system, "GetDeviceByIpIface", "s", self.interface))
        if found is None:
            raise ApplyError(f"NetworkManager does not say which device {self.interface} is")
        return found.group(1)

    def _checkpoints(self, system: "System", device: str) -> List[str]:
        """Those of this NIC."""
        words = ("busctl", "get-property", SERVICE)
        listed = _PATH.findall(must(system, (*words, OBJECT, SERVICE, "Checkpoints"), PATIENCE))
        return [
            path
            for path in listed
            if device
            in _PATH.findall(must(system, (*words, path, f"{SERVICE}.Checkpoint", "Devices"), PATIENCE))
        ]

    def _call(self, system: "System", method: str, *arguments: str) -> str:
        return must(system, ("busctl", "call", SERVICE, OBJECT, SERVICE, method, *arguments), PATIENCE)
