"""systemd-networkd's file for one NIC (systemd.network(5)).

The first file by name in any of its directories that matches a NIC is all that counts for it: "05-" comes
before what netplan ("10-netplan-"), cloud-init ("10-cloud-init-") and images ("80-") write. Whole files:
reload missed changed drop-ins in 247 (systemd#19576).
"""

from __future__ import annotations

from typing import List, Tuple

from csagent.apply.network.plan import File, Wanted

DIRECTORY = "/etc/systemd/network"
PREFIX = "05-csagent-"
PATTERN = f"{DIRECTORY}/{PREFIX}*.network"
MODE = 0o644  # networkd is no root: what it may not read it passes over, and reload says nothing of it
HEAD = "# Written by csagent: CloudStack's network_data.json. Remove this file and run: networkctl reload\n"


def path(mac: str) -> str:
    """Where the file of a NIC lies."""
    return f"{DIRECTORY}/{PREFIX}{mac.replace(':', '')}.network"


def render(wanted: Wanted) -> Tuple[File, ...]:
    """The one file that configures a NIC."""
    lines: List[str] = ["[Match]", f"MACAddress={wanted.mac}", "Type=ether"]
    if wanted.mtu is not None:
        lines += ["", "[Link]", f"MTUBytes={wanted.mtu}"]
    lines += ["", "[Network]"]
    lines += [f"Address={address}" for address in wanted.addresses]
    if wanted.route(6) is not None:
        lines.append("IPv6AcceptRA=no")  # a router advertisement's default route would stand beside ours
    lines += [f"DNS={server}" for server in wanted.dns]
    for route in wanted.routes:
        lines += ["", "[Route]", f"Gateway={route.via}", f"Metric={route.metric}"]
        if route.onlink:
            lines.append("GatewayOnLink=yes")
    return (File(path(wanted.mac), HEAD + "\n".join(lines) + "\n", MODE),)
