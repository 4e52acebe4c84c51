"""What rtnetlink says of a link, in the kernel's own form."""

from __future__ import annotations

import struct
from typing import Dict, Iterator, Tuple

import pytest

from csagent.apply.network import kernel
from csagent.discovery import netlink

OWN, GIVEN = bytes.fromhex("020100c40005"), bytes.fromhex("0201007e0011")
NAMES = [(3, "ens3"), (4, "ens4"), (9, "bond0")]


def attributes(said: Dict[int, bytes]) -> bytes:
    area = b""
    for kind, value in said.items():
        area += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return area


def message(index: int, said: Dict[int, bytes]) -> Tuple[int, bytes]:
    return netlink.RTM_NEWLINK, struct.pack("=BxHiII", 0, kernel.ARPHRD_ETHER, index, 0, 0) + attributes(said)


def test_the_mac_address_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link's own, or what a bond keeps of its port; none where nobody says so."""
    bond_port = attributes({kernel.IFLA_BOND_SLAVE_PERM_HWADDR: OWN})
    of_a_port = {kernel.IFLA_INFO_SLAVE_KIND: b"bond\0", kernel.IFLA_INFO_SLAVE_DATA: bond_port}
    of_a_bridge = {kernel.IFLA_INFO_SLAVE_KIND: b"bridge\0", kernel.IFLA_INFO_SLAVE_DATA: bond_port}
    told = [
        message(3, {netlink.IFLA_ADDRESS: GIVEN, kernel.IFLA_PERM_ADDRESS: OWN}),
        message(4, {netlink.IFLA_ADDRESS: GIVEN, kernel.IFLA_LINKINFO: attributes(of_a_port)}),
        message(4, {netlink.IFLA_ADDRESS: GIVEN, kernel.IFLA_LINKINFO: attributes(of_a_bridge)}),
        message(9, {netlink.IFLA_ADDRESS: GIVEN, kernel.IFLA_PERM_ADDRESS: b"\0"}),
    ]

    def dump(_kind: int, _body: bytes) -> Iterator[Tuple[int, bytes]]:
        yield from told

    monkeypatch.setattr("socket.if_nameindex", lambda: NAMES)
    monkeypatch.setattr(netlink, "dump", dump)
    own, given = "02:01:00:c4:00:05", "02:01:00:7e:00:11"
    links = list(kernel._links())
    assert [link.mac for link in links] == [given] * 4
    assert [link.permanent for link in links] == [own, own, None, None]
    assert [link.own_mac for link in links] == [own, own, given, given]
