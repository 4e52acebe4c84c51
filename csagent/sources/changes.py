"""What has changed under a pass that waits: a lease, an address, a drive.

Compared twice a second, and at once where the kernel says that an address or a route is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Hashable, List, Optional, Tuple

from csagent.sandbox.child import Wake

if TYPE_CHECKING:
    from csagent.system.events import Network
    from csagent.system.seams import System

Marks = Tuple[Hashable, ...]

TICK = 0.5  # seconds between looks for a new lease or drive
SOON = 0.05  # seconds after the kernel's word: the client writes its lease when it has set the address


class Lookout:
    """Looks at what the finder would look at, without parsing it.

    Args:
        system: the machine; of a tree nothing is looked at, it says nothing about this machine's network.
        labels: of the drives.
        active: whether anything is looked for.
    """

    def __init__(self, system: "System", labels: Tuple[str, ...], active: bool) -> None:
        self._system, self._labels, self._active = system, labels, active
        self.seen: Tuple[Marks, Marks] = (self.network(), self.drives())  # at the last look
        self._next = system.clock.monotonic() + TICK
        self._kernel: Optional["Network"] = None
        if active:
            from csagent.system.events import Network

            try:
                self._kernel = Network()
            except OSError:
                pass  # the looks remain

    def network(self) -> Marks:
        """A fingerprint of leases, addresses and routes."""
        if not self._active:
            return ()
        from csagent.discovery import finder

        return finder.network_marks(self._system)

    def network_anew(self) -> Marks:
        """As of now: somebody begins to read what is there now, and no later look is to call that news."""
        self.seen = (self.network(), self.seen[1])
        return self.seen[0]

    def sees_an_address(self) -> bool:
        """Whether there may be anybody to ask."""
        from csagent.discovery import finder

        return finder.may_have_candidates(self._system)

    def drives(self) -> Marks:
        """A fingerprint of the drives with a label."""
        if not self._active:
            return ()
        from csagent.discovery import finder

        return finder.drive_marks(self._system, self._labels)

    def waits_for(self) -> List[Wake]:
        """What ends a wait early."""
        return [self._kernel] if self._kernel is not None else []

    def until(self) -> float:
        """When the next look is due, on the monotonic clock; it may be overdue."""
        return self._next if self._active else float("inf")

    def heard(self) -> None:
        """The kernel has said something: look soon."""
        try:
            if self._kernel is None or not self._kernel.news():
                return
        except OSError:
            pass  # messages were lost: there were many
        self._next = min(self._next, self._system.clock.monotonic() + SOON)

    def look(self) -> Tuple[bool, bool]:
        """Whether the network, and whether the drives, have changed since the last look, when one is due."""
        if not self._active or self._system.clock.monotonic() < self._next:
            return False, False
        self._next = self._system.clock.monotonic() + TICK
        before, self.seen = self.seen, (self.network(), self.drives())
        return before[0] != self.seen[0], before[1] != self.seen[1]

    def close(self) -> None:
        """Stop listening."""
        if self._kernel is not None:
            self._kernel.close()
