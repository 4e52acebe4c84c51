"""Opening a TCP connection to a candidate, and putting what the kernel says about it into our words."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from csagent.errors import Absent, Malformed, ProbeError, Refused, ServerFault, TimedOut, Unreachable

# Here, so that it is loaded before the child gives up the right to read it; the dialer would do it later.
from csagent.system.sockets import DeadlineSocket

if TYPE_CHECKING:
    from csagent.model import Endpoint
    from csagent.system.seams import System

CONNECT_SECONDS = 2.0
"""Patience with a silent address. The kernel repeats its SYN after one second, so that a router that
comes up in between is still noticed within a second."""

# By a firewall, a routing rule or SELinux (connect(2), ip-rule(8)); csagent asks as a user without rights.
ONLY_ROOT = "permission denied: perhaps only root may reach the router here"

_BY_ERRNO = {
    errno.EACCES: Unreachable(ONLY_ROOT),
    errno.EPERM: Unreachable(ONLY_ROOT),
    errno.ECONNREFUSED: Refused("connection refused"),
    errno.ECONNRESET: Refused("connection reset"),
    errno.ECONNABORTED: Refused("connection reset"),
    errno.EPIPE: Refused("connection closed by the peer"),
    errno.ETIMEDOUT: TimedOut("no answer in time"),
    errno.EAGAIN: TimedOut("no answer in time"),
    errno.ENODEV: Unreachable("its network interface is gone"),
    errno.EADDRNOTAVAIL: Unreachable("the source address is not on this machine"),
    errno.ENETUNREACH: Unreachable("no route to that network"),
    errno.EHOSTUNREACH: Unreachable("no route to that host"),
    errno.ELOOP: Unreachable("an address of this machine, which is no router"),
}


def problem(error: OSError) -> ProbeError:
    """A failed connect, send or receive as a `ProbeError` whose text holds nothing that the peer sent."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return TimedOut("no answer in time")
    known = _BY_ERRNO.get(error.errno or 0)
    if known is not None:
        return type(known)(str(known))
    return Unreachable(os.strerror(error.errno) if error.errno else "the connection failed")


def status_problem(status: int) -> ProbeError:
    """An HTTP status other than 200 as a `ProbeError` (field/cloudstack#2.7, #edge-67)."""
    if status in (404, 410):
        return Absent(f"HTTP {status}")
    if status in (401, 403, 407, 429):
        return Refused(f"HTTP {status}")
    if 300 <= status < 400:
        return Malformed(f"HTTP {status}: a redirect, which is not followed")
    if status == 500:
        return ServerFault(f"HTTP {status}")
    if status > 500:
        return ProbeError(f"HTTP {status}")
    return Malformed(f"HTTP {status}")


def connect(system: System, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
    """Connect within `CONNECT_SECONDS`; the socket that comes back ends at `deadline`.

    Args:
        system: its dialer and clock are used.
        endpoint: its address is a dotted quad: a name is refused, so that no resolver without a deadline is
            asked. Its source is the lease address of the NIC, our identity (field/cloudstack#2.2 and #4.1).
        deadline: on the monotonic clock.

    Raises:
        ProbeError: `Refused`, `TimedOut` or `Unreachable`.
    """
    try:
        socket.inet_pton(socket.AF_INET, endpoint.address)
    except (OSError, ValueError):
        raise Unreachable("not an IPv4 address") from None
    soon = min(deadline, system.clock.monotonic() + system.clock.stretched(CONNECT_SECONDS))
    try:
        connection = system.dialer.connect(endpoint, soon)
    except (OverflowError, ValueError):
        raise Unreachable("not a port or source address that can be used") from None
    except OSError as error:
        raise problem(error) from None
    connection.deadline = deadline
    return connection
