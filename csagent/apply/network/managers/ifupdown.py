"""ifupdown, through ifdown(8) and ifup(8) in a transient unit (field/network-data#N53, #N54).

Not as a child of ours: csagent's unit may not set addresses, and a dhclient would stay in its control group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from csagent.apply.network.managers.commands import must

if TYPE_CHECKING:
    from csagent.system.seams import System

PATIENCE = 30.0  # seconds; the boot's own ifup may hold the lock for as long as it waits for DHCP

# ifdown goes by what ifup has recorded, whatever the files say now. A NIC that was never up is no error.
SCRIPT = 'ifdown "$1" || true; exec ifup "$1"'


class Ifupdown:
    """The system, about one NIC."""

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def guard(self, _system: "System") -> Optional[str]:
        return None

    def take(self, system: "System") -> None:
        must(system, (*self._unit(system), "/bin/sh", "-c", SCRIPT, "sh", self.interface), PATIENCE)

    def repair(self, system: "System") -> None:
        self.take(system)

    def keep(self, _system: "System", _token: Optional[str]) -> None:
        return

    def go_back(self, _system: "System", _token: Optional[str]) -> None:
        return

    def restored(self, system: "System", mtu: Optional[int]) -> None:
        """The former stanza may be DHCP's, and wait longer than we do: it goes on without us then."""
        if mtu is not None:
            words = ("ip", "link", "set", "dev", self.interface, "mtu", str(mtu))
            system.runner.run((*self._unit(system), *words), timeout=PATIENCE)
        self.take(system)

    def _unit(self, system: "System") -> Tuple[str, ...]:
        if not system.tree.exists("/run/systemd/system"):
            return ()
        return ("systemd-run", "--quiet", "--collect", "--wait", "--service-type=oneshot", "--")
