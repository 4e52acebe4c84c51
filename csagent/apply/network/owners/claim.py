"""What one configuration system has to say of one NIC."""

from __future__ import annotations

from typing import NamedTuple, Optional


class Claim(NamedTuple):
    """A system's relation to a NIC.

    `holds`: it has the NIC; else it runs and would take it if it had a file for it, but where it `forbids`
    that: it is told to leave the NIC alone. `against` says why csagent leaves the NIC alone. The rest as in
    `csagent.apply.network.machine.Owner`.
    """

    manager: str
    holds: bool = True
    against: Optional[str] = None
    ours: bool = False
    starting: bool = False
    how: str = ""
    raised: bool = False
    forbids: bool = False


class Verdict(NamedTuple):
    """What a file says of a NIC: ours; or DHCP and the like, which may be replaced; or `against` it."""

    how: str = ""
    against: Optional[str] = None
    ours: bool = False
