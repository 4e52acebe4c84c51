"""Tell the password servers that the password is saved, in one more unprivileged child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from csagent.errors import JailError
from csagent.model import Candidate, Endpoint, Place, Secret
from csagent.sandbox import jail

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

PATIENCE = 6.0  # seconds for all endpoints together


def acknowledge(
    system: "System",
    value: Secret,
    endpoints: Tuple[Endpoint, ...],
    cancel: Optional["CancelFd"] = None,
    *,
    given: bool = False,
) -> Tuple[Place, ...]:
    """Acknowledge to each password server that still offers this password. Nothing is raised.

    Args:
        system: the seams.
        value: the password that was set.
        endpoints: those that offered it.
        cancel: ends it early: the next pass tries again.
        given: the router was named on the command line, so that it may be this very machine.

    Returns:
        One place per endpoint (see `csagent.sources.router.passwords.acknowledge`), or one that says why
        the child gave no answer.
    """
    from csagent.sources import checks

    def prepare() -> Optional["Filters"]:
        # Imported while their files can still be read.
        from csagent.sandbox import codec, seccomp  # noqa: F401
        from csagent.sources.router import egress, passwords  # noqa: F401

        return seccomp.load_library()

    def work(filters: Optional["Filters"], _say: jail.Send) -> object:
        from csagent.sandbox import codec
        from csagent.sources.router import passwords
        from csagent.sources.router.egress import Fence

        known = [
            Candidate(
                one.address, "given", "", one.interface, one.source, port=one.port, password_port=one.port
            )
            for one in endpoints
        ]
        ports = [one.port for one in endpoints]
        fenced, _ = Fence(system, filters, ports, given=given).close(system, known)
        deadline = system.clock.monotonic() + system.clock.stretched(PATIENCE)
        return codec.encode(passwords.acknowledge(fenced, endpoints, value, deadline))

    try:
        answer = jail.run(
            jail.Job("acknowledgement", system, prepare, work, jail.READER, jail.unprivileged()),
            PATIENCE + 2,
            cancel,
        )
        return checks.decode_all(Place, answer)
    except JailError as error:
        return (Place("password server", "acknowledgement", "failed", str(error)),)
