"""NICs, documents and machines for the tests of the network's decision."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from csagent.apply.network import document
from csagent.apply.network.document import Document
from csagent.apply.network.machine import NETWORKD, RESOLVED, Device, Machine, Owner
from csagent.sources import network_data

MAC, SECOND_MAC, THIRD_MAC = "02:01:00:c4:00:05", "02:01:00:7e:00:11", "02:01:00:1b:00:2c"
DHCP = Owner(NETWORKD, how="DHCP by /run/systemd/network/10-netplan-all-en.network")


def nic(
    name: str = "ens3", mac: str = MAC, owner: Owner = DHCP, lease: Optional[str] = None, **more: Any
) -> Device:
    """A NIC on which DHCP has not answered."""
    return Device(name, mac, lease=lease, owner=owner, **more)


def machine(*devices: Device, **more: Any) -> Machine:
    """These NICs, and systemd-resolved."""
    return Machine(devices, **{"resolver": RESOLVED, **more})


def link(number: int, mac: str, mtu: int = 1500) -> Dict[str, Any]:
    """A link as CloudStack writes it."""
    return {"ethernet_mac_address": mac, "id": f"eth{number}", "mtu": mtu, "type": "phy"}


def network(number: int, address: str, gateway: Optional[str]) -> Dict[str, Any]:
    """A network as CloudStack writes it; `address` is like 10.7.0.21/24."""
    ip, _, prefix = address.partition("/")
    six = ":" in ip
    return {
        "id": f"eth{number}",
        "ip_address": ip,
        "link": f"eth{number}",
        "netmask": prefix,
        "network_id": "b1f7c6e0-0d53-4d0c-8f3b-6f2a1c9d7e10",
        "type": "ipv6" if six else "ipv4",
        "routes": [{"gateway": gateway, "netmask": "0", "network": "::" if six else "0.0.0.0"}],
    }


def raw_document(
    links: Sequence[Dict[str, Any]], networks: Sequence[Dict[str, Any]], dns: Sequence[str] = ()
) -> Dict[str, Any]:
    """A network_data.json."""
    services = [{"address": server, "type": "dns"} for server in dns]
    return {"links": list(links), "networks": list(networks), "services": services}


def parsed(raw: Dict[str, Any]) -> Document:
    """The document that is made of it; nothing of it may be refused."""
    cleaned, reasons = network_data.parse(raw)
    assert reasons == ()
    return document.of(cleaned)


def usual(
    address: str = "10.7.0.21/24", gateway: Optional[str] = "10.7.0.1", dns: str = "10.7.0.2"
) -> Document:
    """One NIC with one address."""
    return parsed(raw_document([link(0, MAC)], [network(0, address, gateway)], [dns] if dns else []))
