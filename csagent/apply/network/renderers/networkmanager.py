"""NetworkManager's keyfile for one NIC (nm-settings-keyfile(5)).

A family that the document does not give stays as it is by default, but for DHCP: an IPv6 NIC would wait for
an IPv4 lease at each boot. NetworkManager adds the host route to a gateway that is no neighbour by itself.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from csagent.apply.network.plan import File, Wanted

DIRECTORY = "/etc/NetworkManager/system-connections"
PREFIX = "csagent-"
PATTERN = f"{DIRECTORY}/{PREFIX}*.nmconnection"
MODE = 0o600  # what others may read is passed over, and nmcli exits with 0
NAMESPACE = "9d1a2b53-6a3f-5c0e-8f54-0c5a7d1f6b21"  # csagent's own, for UUIDs made of MAC addresses
PRIORITY = 50  # above everybody's 0 and the -999 of what NetworkManager makes itself
NO_MEANING = ("connection.timestamp", "ipv6.addr-gen-mode", "connection.interface-name")
HEAD = "# Written by csagent: CloudStack's network_data.json. Remove this, then: nmcli connection reload\n"


def path(mac: str) -> str:
    """Where the file of a NIC lies."""
    return f"{DIRECTORY}/{PREFIX}{mac.replace(':', '')}.nmconnection"


def uuid(mac: str) -> str:
    """The profile's UUID: version 5, of the MAC address."""
    from uuid import UUID, uuid5

    return str(uuid5(UUID(NAMESPACE), mac))


def render(wanted: Wanted) -> Tuple[File, ...]:
    """The one file that configures a NIC."""
    mac = wanted.mac.upper()
    lines = ["[connection]", f"id=csagent {wanted.mac}", f"uuid={uuid(wanted.mac)}", "type=ethernet"]
    lines += [f"autoconnect-priority={PRIORITY}", "", "[ethernet]", f"mac-address={mac}"]
    if wanted.mtu is not None:
        lines.append(f"mtu={wanted.mtu}")
    lines += ["", "[ipv4]", *_family(wanted, 4, "disabled"), "", "[ipv6]", *_family(wanted, 6, "auto")]
    return (File(path(wanted.mac), HEAD + "\n".join(lines) + "\n", MODE),)


def _family(wanted: Wanted, version: int, without: str) -> List[str]:
    """The settings of one family; where the document has none of it, the method `without`."""
    addresses, route = wanted.of_version(version), wanted.route(version)
    servers = [f"dns={';'.join(wanted.servers(version))};"] if wanted.servers(version) else []
    if not addresses:
        return [f"method={without}", *(servers if without == "auto" else [])]
    # Without a gateway of its own an IPv6 NIC takes the router advertisements': "auto" has both.
    lines = ["method=auto" if version == 6 and route is None else "method=manual"]
    lines += [f"address{number}={address}" for number, address in enumerate(addresses, 1)]
    if route is not None:
        lines += [f"gateway={route.via}", f"route-metric={route.metric}"]
    return [*lines, *servers]


def meaning(text: str) -> str:
    """A keyfile in one spelling: NetworkManager rewrites ours in its own when it goes back to a checkpoint.

    Sections and keys in order; a gateway behind the first address, as 1.30 writes it, as a key of its own;
    MAC addresses in capitals; lists without their last separator; no comments, defaults and dates.
    """
    said: Dict[str, str] = {}
    section = ""
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = {"802-3-ethernet": "ethernet"}.get(line[1:-1], line[1:-1])
        elif "=" in line and not line.startswith("#"):
            key, _, value = (part.strip() for part in line.partition("="))
            said[f"{section}.{key}"] = value.rstrip(";")
    for family in ("ipv4", "ipv6"):
        for key in [one for one in said if one.startswith(f"{family}.address")]:
            address, _, gateway = said[key].partition(",")
            said[key] = address
            if gateway:
                said.setdefault(f"{family}.gateway", gateway)
    if "ethernet.mac-address" in said:
        said["ethernet.mac-address"] = said["ethernet.mac-address"].upper()
    return "\n".join(f"{key}={said[key]}" for key in sorted(said) if said[key] and key not in NO_MEANING)
