"""Find and read, in unprivileged children, and merge what they say into one observation.

The virtual router and the drives are looked for side by side, under one deadline; meanwhile it is looked
whether a lease, an address or a drive has appeared.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Dict, Hashable, List, Optional, Sequence, Tuple

from csagent.errors import Interrupted
from csagent.model import Found, Observed, Platform, Reading
from csagent.sources.drive_readers import DriveReaders
from csagent.sources.reader import NEVER
from csagent.sources.request import GRACE
from csagent.sources.router_reader import RouterReader
from csagent.system.changes import ChangeDetector

if TYPE_CHECKING:
    from csagent.sources.reader import Source
    from csagent.sources.request import PassRequest

SHORTEST = 5.0  # seconds for one look where the wait is shorter than any look can be
LOOK_PAUSE = 0.5  # seconds between looks for a new lease or drive
SOON = 0.05  # seconds after the kernel's word: the client writes its lease when it has set the address
NETWORK, DRIVES = "network", "drive"
Marks = Tuple[Hashable, ...]


def observe(request: "PassRequest") -> Observed:
    """Find and read once.

    Raises:
        Interrupted: `request.cancel` became readable.
    """
    return _Observer(request).run()


class _Observer:
    """One observation in the making: the loop around the two sources."""

    def __init__(self, request: "PassRequest") -> None:
        clock = request.system.clock
        self.request = request
        self.grace = request.grace
        self.end = clock.monotonic() + (SHORTEST if request.once else request.wait)
        self.changes = _changes(request)
        # What was there when each source was last started on: the daemon asks afterwards whether that is
        # all that has happened.
        self.marks: Dict[str, Marks] = {NETWORK: (), DRIVES: ()}
        self.platform: Optional[Platform] = None
        self.router = RouterReader(request, self.end, self.dmi, self._looks_at_the_network)
        self.drives = DriveReaders(request, self.end, self.dmi, self._looks_at_the_drives)
        self.sources: List["Source"] = []
        self.sources += [self.router] if request.wants_router else []
        self.sources += [self.drives] if request.wants_drive else []

    def run(self) -> Observed:
        clock = self.request.system.clock
        try:
            self._begin()
            while not self._is_over(clock.monotonic()):
                self._wait()
                changed = self.changes.changed()
                for source in self.sources:
                    source.tick(clock.monotonic())
                if NETWORK in changed and self.request.wants_router:
                    self.router.changed()
                if DRIVES in changed and self.request.wants_drive:
                    self.grace = min(self.grace, GRACE)  # a known drive may wait longer than a new one
                    self.drives.changed()
        finally:
            for source in self.sources:
                source.stop()
            self.changes.close()
        return self._observed()

    def _begin(self) -> None:
        if self.request.wants_router:
            if self.request.once or not self.request.discovers or _sees_an_address(self.request):
                self.router.begin()
            else:
                self._looks_at_the_network(anew=False)
                self.router.wait_for_a_lease()
        if self.request.wants_drive:
            self.drives.begin()

    def _wait(self) -> None:
        """Until a child, the kernel or a deadline has something to say."""
        now = self.request.system.clock.monotonic()
        running = [one for source in self.sources for one in source.running]
        moments = [self.end, *(one.patience.ends for one in running)]
        moments += [moment for source in self.sources for moment in source.moments]
        if self.drives.read_at is not None:
            moments.append(self._grace_ends(self.drives.read_at))
        later = [moment for moment in moments if moment > now] or [now]
        waiting: List[Any] = [*self.changes.sources, *(one.child for one in running)]
        if self.request.cancel is not None:
            waiting.append(self.request.cancel)
        until = min(self.changes.next_look, *later)  # a look that is overdue is not put off any longer
        ready = select.select(waiting, [], [], max(0.0, until - now))[0]
        if self.request.cancel is not None and self.request.cancel in ready:
            raise Interrupted
        if self.changes.told(ready):
            self.changes.hurry(SOON)
        for source in self.sources:
            source.collect(ready)

    def _is_over(self, now: float) -> bool:
        if self.drives.running:
            return False
        if self.router.satisfied:
            return True
        if now >= self.end and not (self.request.patient and self.router.running):
            return True
        if self.drives.read_at is not None:
            return not self.request.wants_router or now >= self._grace_ends(self.drives.read_at)
        if self.router.waits:
            return False
        return self.request.once or not self.request.discovers

    def _grace_ends(self, read_at: float) -> float:
        """Until when the router is waited for, once a drive is read.

        It begins when the router's child asks. Both began together: where the drive took long, the machine is
        slow, and that child slow with it.
        """
        if not self.grace:
            return read_at
        if self.router.running and self.router.asked_at is None:
            return NEVER  # for the child's own time
        return max(read_at, self.router.asked_at or read_at) + max(self.grace, self.drives.took / 2)

    def _observed(self) -> Observed:
        from csagent.sources.merge import merge

        found = self.router.found._replace(drives=self.drives.drives)
        readings = [reading for source in self.sources for reading in source.readings]
        places = [place for source in self.sources for place in source.places]
        observation = merge(readings, places, found.platform, self.request.sources)
        observation = observation._replace(domain=_domain(found, readings))
        return Observed(found, observation, (*self.marks[NETWORK], *self.marks[DRIVES]))

    def _looks_at_the_network(self, *, anew: bool = True) -> None:
        if NETWORK in self.changes.seen:
            if anew:
                self.changes.renew(NETWORK)
            self.marks[NETWORK] = self.changes.seen[NETWORK]

    def _looks_at_the_drives(self) -> None:
        self.marks[DRIVES] = self.changes.seen.get(DRIVES, ())

    def dmi(self) -> Platform:
        """What DMI says, read once."""
        from csagent.discovery.dmi import read_dmi

        if self.platform is None:
            self.platform = read_dmi(self.request.system)
        return self.platform


def _changes(request: "PassRequest") -> ChangeDetector:
    """Looks at what the finder would look at, without parsing it."""
    system, labels = request.system, request.settings.drive_labels
    if not request.discovers:
        return ChangeDetector(system.clock.monotonic, {}, LOOK_PAUSE)
    from csagent.discovery import finder
    from csagent.system.events import Network

    looks = {
        NETWORK: lambda: finder.network_marks(system),
        DRIVES: lambda: finder.drive_marks(system, labels),
    }
    try:
        sources = [Network()]
    except OSError:
        sources = []  # the looks remain
    return ChangeDetector(system.clock.monotonic, looks, LOOK_PAUSE, sources)


def _sees_an_address(request: "PassRequest") -> bool:
    """Whether there may be anybody to ask."""
    from csagent.discovery import finder

    return finder.may_have_candidates(request.system)


def _domain(found: Found, readings: Sequence[Reading]) -> Optional[str]:
    """The domain of a lease, which completes a host name from any source.

    The default NIC's lease says it. Where that NIC has none, a VPN's say, it is the lease of the NIC over
    which the router was read; else the one that all leases with a domain say.
    """
    from csagent import validation

    domains = {lease.interface: validation.domain(lease.domain_name) for lease in found.leases}
    for interface in (found.default_interface, *(reading.interface for reading in readings)):
        if interface in domains:
            return domains[interface]
    said = {domain for domain in domains.values() if domain}
    return said.pop() if len(said) == 1 else None
