"""How to have a DHCP client forget its lease and ask all servers, not only the one that gave it.

A mere renewal asks the old server first, for half of the lease's time, and an infinite lease for ever
(RFC 2131, 4.4.5).
"""

from __future__ import annotations

import shlex
from typing import Dict, Union

from csagent.model import Lease, Rejected

# By client, as leases name it. One that has died is started: networkctl did that by D-Bus until Debian 12.
# networkctl(1), nmcli(1), ifup(8), dhcpcd(8), wicked(8).
_IFUPDOWN = "ifdown {nic} && ifup {nic}"
_COMMANDS: Dict[str, str] = {
    "systemd-networkd": "systemctl start systemd-networkd && networkctl reconfigure {nic}",
    "NetworkManager": "systemctl start NetworkManager && nmcli device connect {nic}",
    "dhclient": _IFUPDOWN,
    "udhcpc": _IFUPDOWN,
    "dhcpcd": "dhcpcd --rebind {nic}",
    "wicked": "wicked ifdown {nic} && wicked ifup {nic}",
}
NETWORKMANAGERS = "/var/lib/NetworkManager/"


def command(lease: Union[Lease, Rejected], nic: str = "NIC") -> str:
    """The command for its NIC, `nic` where it names none; "reboot" for a client that has none."""
    client = "NetworkManager" if lease.path.startswith(NETWORKMANAGERS) else lease.client
    return _COMMANDS.get(client, "reboot").format(nic=shlex.quote(lease.interface or nic))
