"""IPv4 networks as text, "10.1.1.0/24". It imports no parser, so that root's process may use it."""

from __future__ import annotations

from typing import Sequence


def network(address: str, prefix: int) -> str:
    """The network of an address, as in "10.1.1.0/24"."""
    number = int.from_bytes(map(int, address.split(".")), "big") >> (32 - prefix) << (32 - prefix)
    return f"{'.'.join(map(str, number.to_bytes(4, 'big')))}/{prefix}"


def lies_within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address is in one of these networks."""
    return any(network(address, int(one.rpartition("/")[2])) == one for one in networks)
