"""What a pass is asked for: the machine, the settings, and what the command line or the daemon says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Tuple

from csagent.log import nothing
from csagent.model import HTTP_PORT, PASSWORD_PORT

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.settings import Settings
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

GRACE = 3.0  # seconds that the router gets once a drive has been read: such VMs usually have none to wait for
ONE_LOOK = 1.0  # seconds; who waits less than that wants one look


def unheard(_seconds: float) -> None:
    """Nobody has to be told how long something takes."""


class Options(NamedTuple):
    """What the command line says about one pass. A place named here replaces discovery of all places."""

    router: Optional[Tuple[str, int]] = None  # host, port
    password_port: Optional[int] = None  # None: 8080
    drive: Optional[str] = None  # a path on this machine, not below the root
    source: Optional[str] = None  # router | drive: only this one
    force_password: bool = False

    @property
    def given(self) -> bool:
        """Whether places were named, so that none are looked for."""
        return self.router is not None or self.drive is not None

    @property
    def ports(self) -> Tuple[int, int]:
        """Of metadata and of passwords: no other is ever connected to."""
        return (self.router[1] if self.router else HTTP_PORT, self.password_port or PASSWORD_PORT)


class PassRequest(NamedTuple):
    """One pass, or its first half, the observation."""

    system: "System"  # the machine, or a tree
    settings: "Settings"
    options: Options = Options()
    wait: float = 10.0  # seconds to wait for a source; less than a second means one look
    grace: float = GRACE  # seconds that the router gets once a drive has been read
    patient: bool = False  # a child that is starved of processor time has what it needs, also beyond `wait`
    cancel: Optional["CancelFd"] = None  # readable: the waiting (not the changing) ends early
    takes: "Callable[[float], None]" = unheard  # told that what begins now may take so many seconds more
    log: "Say" = nothing  # takes one line per decision, and its fields (docs/monitoring.md)

    @property
    def once(self) -> bool:
        """Whether there is one look only, and no waiting."""
        return self.wait < ONE_LOOK

    @property
    def sources(self) -> Tuple[str, ...]:
        """The channels that are wanted, best trusted first."""
        only = self.options.source
        return tuple(source for source in self.settings.sources if only in (None, source))

    @property
    def wants_router(self) -> bool:
        """Whether a virtual router is looked for."""
        return "router" in self.sources and (self.options.router is not None or not self.options.given)

    @property
    def wants_drive(self) -> bool:
        """Whether a config drive is looked for."""
        return "drive" in self.sources and (self.options.drive is not None or not self.options.given)

    @property
    def discovers(self) -> bool:
        """Whether leases and devices are looked at.

        A tree's say nothing about the network and the drives of this machine.
        """
        return self.system.live and not self.options.given
