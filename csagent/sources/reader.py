"""What the readers of both channels have in common: children with a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from csagent.model import Place, Reading

if TYPE_CHECKING:
    from csagent.sandbox.child import Child
    from csagent.system.slowness import Patience


NEVER = float("inf")  # of a moment that does not come by itself
RESTART_AFTER = 1.0  # seconds that a child may go on after what it reads from has changed
AS_THEY_COME = 4  # changes in one wait for which none waits longer: a NIC, its address, its lease, one more


class Running(NamedTuple):
    """A reading child that runs, and how long it is waited for."""

    child: "Child"
    patience: "Patience"
    why: str
    device: str = ""  # of a drive reader
    ready: bool = False  # it has begun to read


class Source(Protocol):
    """One channel of an observation: its children, and what they have said."""

    @property
    def running(self) -> Sequence[Running]:
        """The reading children that still run."""
        ...

    @property
    def moments(self) -> Iterable[float]:
        """When something is to be done besides: another child, say."""
        ...

    def begin(self) -> None:
        """Start a child for each place that can be read now."""
        ...

    def collect(self, ready: Sequence[Any]) -> None:
        """Take in what the children that are readable have said."""
        ...

    def changed(self) -> None:
        """What this channel reads from is not what it was."""
        ...

    def tick(self, now: float) -> None:
        """Give up whose time is over; start what is due."""
        ...

    def stop(self) -> None:
        """End the children; what they have said so far counts."""
        ...

    @property
    def readings(self) -> Tuple[Reading, ...]:
        """What was read."""
        ...

    @property
    def places(self) -> Tuple[Place, ...]:
        """Each place that was looked at, and what came of it; at least one, which says why there is none."""
        ...


def restart_pause(restarts: int) -> float:
    """Seconds that a child is left before another begins, since what it reads from has changed again.

    It grows, so that a NIC or a drive that never rests does not end each child before it has read anything.

    Args:
        restarts: children of this wait that were begun because of such a change.
    """
    return RESTART_AFTER * 2.0 ** max(0, restarts - AS_THEY_COME + 1)


def over(running: Sequence[Running], now: float) -> List[Running]:
    """The children whose time is over."""
    return [one for one in running if one.patience.over(now)]


def too_late(one: Running) -> str:
    """What is told of a child whose time was over."""
    return f"{one.child.name}: no answer in time; stopped"


def news_of(running: Optional[Running], ready: Sequence[Any]) -> bool:
    """Whether a child is there and readable."""
    return running is not None and running.child in ready
