"""Which lease's domain completes the host name."""

from __future__ import annotations

from typing import Optional, Tuple

import pytest

from csagent.model import Found, Lease, Reading
from csagent.sources.observe import _domain


def lease(interface: str, domain: Optional[str]) -> Lease:
    return Lease(interface, "dhclient", "10.1.1.42", domain_name=domain)


@pytest.mark.parametrize(
    ("leases", "default", "read_over", "expected"),
    [
        ((lease("eth0", "a.example"),), "eth0", None, "a.example"),
        ((lease("eth0", "a.example"),), "tun0", None, "a.example"),
        ((lease("eth0", "a.example"), lease("eth1", "b.example")), "tun0", "eth1", "b.example"),
        ((lease("eth0", "a.example"), lease("eth1", "b.example")), "tun0", None, None),
        ((lease("eth0", "a.example"), lease("eth1", "a.example")), "tun0", None, "a.example"),
        ((lease("eth0", None), lease("eth1", "b.example")), "eth0", "eth1", None),
        ((lease("eth0", "10.1.1.1"),), "eth0", None, None),
        ((), None, None, None),
    ],
)
def test_domain(
    leases: Tuple[Lease, ...], default: Optional[str], read_over: Optional[str], expected: Optional[str]
) -> None:
    """The default NIC's; where that has no lease (a VPN), the read NIC's, else the one all agree on."""
    readings = [Reading("router", "router 10.1.1.1", interface=read_over)]
    assert _domain(Found(leases=leases, default_interface=default), readings) == expected
