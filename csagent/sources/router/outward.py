"""No connection to this machine itself: what listens here is no router, whatever a lease or a name says.

A user's own port, a container's, or a proxy would otherwise be asked, and believed, in its place.
"""

from __future__ import annotations

import errno
from typing import Optional

from csagent.discovery import netlink
from csagent.system.seams import Dialer
from csagent.system.sockets import DeadlineSocket


def refuse_this_machine(address: str) -> None:
    """Ask the kernel where an IPv4 address leads.

    Raises:
        OSError: to this machine (ELOOP), or it is no address.
    """
    try:
        local = netlink.is_local(address)
    except ValueError:
        local = False
    except OSError as error:
        if error.errno is None:
            raise
        local = False  # no netlink in this sandbox; the addresses of the NICs are never candidates
    if local:
        raise OSError(errno.ELOOP, "an address of this machine")


class Outward(Dialer):
    """Connects to other machines only."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def connect(self, address: str, port: int, source: Optional[str], deadline: float) -> DeadlineSocket:
        refuse_this_machine(address)
        return self._dialer.connect(address, port, source, deadline)
