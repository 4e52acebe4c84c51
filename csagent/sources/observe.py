"""Find and read, in unprivileged children, and merge what they say into one observation.

The virtual router and the drive are looked for side by side. Every drive has a child of its own, so that
a bad one cannot cost the router's answer. The parent waits under one deadline, looks twice a second
whether a lease or a drive has appeared, and imports what it will need while the children work.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Callable, Dict, Hashable, List, Optional, Tuple

from csagent.errors import JailError
from csagent.model import Drive, Found, Observed, Place, Platform, Reading
from csagent.sandbox.child import ROUTER_JOB, Wake
from csagent.sources import jobs
from csagent.sources.changes import Lookout
from csagent.sources.jobs import Options

if TYPE_CHECKING:
    from csagent.sandbox.child import Child
    from csagent.settings import Settings
    from csagent.system.seams import System

GRACE = 3.0  # seconds that the router gets once a drive has been read: mostly there is none then
ONE_LOOK = 5.0  # seconds for one look where the wait is shorter than any look can be
DRIVE_PATIENCE = 6.0  # seconds for an image; field/dependencies#3
LOADING_PATIENCE = 20.0  # seconds for the library before it
SCOUT_PATIENCE = 20.0
DRIVE_AT_LEAST = 2.0  # seconds, however short the wait is
ROUTER_LIFE = 30.0  # seconds of one router child: its CPU limit is for a read, not for a long wait
FAILED_PAUSE = 2.0  # seconds before another router child where one has died
RESTART_AFTER = 1.0  # seconds a router child may go on after the leases changed under it
LAST_WORDS = 0.7  # seconds that a child has to say what it found before it is killed
MAX_DRIVES = 8


class Interrupted(Exception):
    """The daemon was told to stop or to reload while it waited."""


class _Job:
    """A running child and what it is for."""

    def __init__(self, child: "Child", ends: float, why: str, device: str = "") -> None:
        self.child, self.ends, self.why, self.device = child, ends, why, device
        self.ready = False


def observe(
    system: "System",
    settings: "Settings",
    options: Options,
    *,
    wait: float,
    grace: float = GRACE,
    wake: Optional[Wake] = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Observed:
    """Find and read once.

    Args:
        system: the seams.
        settings: sources and labels.
        options: places named on the command line.
        wait: seconds to wait for a source; less than a second means one look.
        grace: seconds that the router gets once a drive has been read.
        wake: ends the waiting early.
        meanwhile: called once the children run.

    Raises:
        Interrupted: `wake` became readable.
    """
    return _Observer(system, settings, options, wait, grace, wake).run(meanwhile)


class _Observer:
    """One observation in the making."""

    def __init__(
        self,
        system: "System",
        settings: "Settings",
        options: Options,
        wait: float,
        grace: float,
        wake: Optional[Wake],
    ) -> None:
        self.system, self.settings, self.options = system, settings, options
        self.grace, self.wake = grace, wake
        self.once = wait < 1.0
        self.end = system.clock.monotonic() + (ONE_LOOK if self.once else wait)
        self.sources = tuple(source for source in settings.sources if options.source in (None, source))
        self.wants_router = "router" in self.sources and (options.router is not None or not options.given)
        self.wants_drive = "drive" in self.sources and (options.drive is not None or not options.given)
        # A tree's leases and devices say nothing about the network and the drives of this machine.
        self.discovers = system.live and not options.given
        self.lookout = Lookout(system, settings.drive_labels, self.discovers)
        # What was there when the router and the drives were last started on: the daemon asks afterwards
        # whether that is all that has happened.
        self.seen: List[Tuple[Hashable, ...]] = [(), ()]
        self.found = Found()
        self.platform: Optional[Platform] = None
        self.router: Optional[_Job] = None
        self.router_started = 0.0
        self.router_done = False
        self.router_stale = False
        self.router_again_at: Optional[float] = None
        self.router_readings: Tuple[Reading, ...] = ()
        self.router_places: Tuple[Place, ...] = ()
        self.drives: List[_Job] = []
        self.drive_readings: Dict[str, Reading] = {}
        self.drive_places: Dict[str, Place] = {}
        self.drive_read_at: Optional[float] = None

    # --- the loop ---

    def run(self, meanwhile: Callable[[], None]) -> Observed:
        clock = self.system.clock
        try:
            if self.wants_router:
                self._begin_with_router()
            if self.wants_drive:
                self._start_drives()
            meanwhile()
            from csagent.sources.merge import merge

            while not self._is_over(clock.monotonic()):
                self._select()
                now = clock.monotonic()
                self._expire(now)
                self._look_again(*self.lookout.look())
                stale = self.router_stale and now - self.router_started >= RESTART_AFTER
                if stale or (self.router_again_at is not None and now >= self.router_again_at):
                    self._start_router()
            self._last_words()
        finally:
            for job in self._jobs():
                job.child.kill()
            self.lookout.close()
        places = self._places()
        readings = [*self.router_readings, *self.drive_readings.values()]
        observation = merge(readings, places, self.found.platform, self.sources)
        seen = (*self.seen[0], *self.seen[1])
        return Observed(self.found, observation._replace(domain=self._domain()), seen)

    def _domain(self) -> Optional[str]:
        """The domain of the default NIC's lease, which completes a host name from any source."""
        from csagent import validation

        for lease in self.found.leases:
            if lease.interface == self.found.default_interface:
                return validation.domain(lease.domain_name)
        return None

    def _look_again(self, network: bool, drives: bool) -> None:
        if self.wants_router and network and not self.router_readings:
            again = self.router_started + RESTART_AFTER
            if self.router is not None:
                self.router_stale = True
            elif self.system.clock.monotonic() >= again:
                self._start_router()
            else:  # an address that comes and goes
                self.router_again_at = again
        if self.wants_drive and drives:
            self.grace = min(self.grace, GRACE)  # however long a known drive waits, a new one does not
            self._start_drives()

    def _jobs(self) -> List[_Job]:
        return ([self.router] if self.router is not None else []) + self.drives

    def _is_over(self, now: float) -> bool:
        if self.drives:
            return False
        if (self.router_done and self.router_readings) or now >= self.end:
            return True
        if self.drive_read_at is not None:
            return not self.wants_router or now >= self.drive_read_at + self.grace
        if self.router is not None or self.router_again_at is not None:
            return False
        return self.once or not self.discovers

    def _select(self) -> None:
        now = self.system.clock.monotonic()
        moments = [self.end, *(job.ends for job in self._jobs())]
        if self.drive_read_at is not None:
            moments.append(self.drive_read_at + self.grace)
        if self.router_again_at is not None:
            moments.append(self.router_again_at)
        later = [moment for moment in moments if moment > now] or [now]
        waiting: List[Any] = [*self.lookout.waits_for(), *(job.child for job in self._jobs())]
        if self.wake is not None:
            waiting.append(self.wake)
        until = min(self.lookout.until(), *later)  # a look that is overdue is not put off any longer
        ready = select.select(waiting, [], [], max(0.0, until - now))[0]
        if self.wake is not None and self.wake in ready:
            raise Interrupted
        self.lookout.heard()
        for job in self._jobs():
            if job.child in ready:
                self._collect(job)

    def _collect(self, job: _Job) -> None:
        try:
            done = job.child.collect()
            if job is self.router:
                self._hear_router(job, done)
            elif done:
                self.drives.remove(job)
                self._hear_drive(job)
            elif not job.ready and job.child.documents():
                job.ready, job.ends = True, self._until(DRIVE_PATIENCE)
        except JailError as error:
            self._failed(job, "malformed", str(error))

    def _expire(self, now: float) -> None:
        for job in self._jobs():
            if now >= job.ends:
                self._failed(job, "timeout", f"{job.child.name}: no answer in time; stopped")

    def _failed(self, job: _Job, outcome: str, detail: str) -> None:
        job.child.kill()
        if job.child.name == ROUTER_JOB:  # it may have ended, and its answer be at fault
            self.router, self.router_done = None, True
            self.router_places += (Place("router", job.why, outcome, detail),)
            self._try_again(FAILED_PAUSE)
            return
        if job in self.drives:
            self.drives.remove(job)
        self.drive_places[job.device] = Place(f"drive {job.device}".strip(), job.why, outcome, detail)

    # --- the router ---

    def _begin_with_router(self) -> None:
        """A reader at once, where there may be somebody to ask; else one that waits for a lease."""
        if self.once or not self.discovers or self.lookout.sees_an_address():
            self._start_router()
            return
        self.seen[0] = self.lookout.seen[0]
        self.found = self.found._replace(platform=self._dmi())
        self.router_done = True

    def _start_router(self) -> None:
        if self.router is not None:
            self.router.child.kill()
        self.seen[0] = self.lookout.network_anew()
        now = self.system.clock.monotonic()
        deadline = min(self.end - min(LAST_WORDS, (self.end - now) / 2), now + ROUTER_LIFE)
        child = jobs.start_router(
            self.system, self.options, self.settings.drive_labels, deadline, once=self.once
        )
        self.router = _Job(child, deadline + 2.0, "find and read the virtual router")
        self.router_started = now
        self.router_done = self.router_stale = False
        self.router_again_at = None

    def _try_again(self, pause: float) -> None:
        """Another router child, where there is time for one."""
        at = self.system.clock.monotonic() + pause
        if not self.once and not self.router_readings and at < self.end - LAST_WORDS:
            self.router_again_at = at

    def _hear_router(self, job: _Job, done: bool) -> None:
        from csagent.sources import checks

        said = job.child.documents()
        document = None
        if done:
            document = job.child.result()
            self.router, self.router_done = None, True
        if not said or (isinstance(said[0], dict) and "died" in said[0]):
            return  # why it died is told once it is done
        # Only what it said before it heard from anybody tells who may be believed and acknowledged to.
        found = checks.found_news(said[0])
        # DMI is ours to read: it decides whose data these may be.
        self.found = found._replace(drives=self.found.drives, platform=self._dmi())
        if document is None and isinstance(said[-1], dict):
            document = said[-1].get("so_far")
        if document is None:
            return
        news = checks.router_news(document, found)
        self.router_readings, self.router_places = news.readings, news.places
        if done and found.candidates:
            self._try_again(0.0)

    def _last_words(self) -> None:
        """What the router child has said so far counts, though it is stopped."""
        if self.router is not None:
            try:
                self._hear_router(self.router, self.router.child.collect())
            except JailError as error:
                if self.router is not None:
                    self._failed(self.router, "malformed", str(error))

    # --- the drives ---

    def _start_drives(self) -> None:
        for job in self.drives:
            job.child.kill()
        self.seen[1] = self.lookout.seen[1]
        self.drives = []
        self.drive_places, self.drive_readings = {}, {}
        self.drive_read_at = None
        labels = self.settings.drive_labels
        if self.options.drive is not None:
            self._start_drive(self.options.drive, "given by --drive", given=True)
        elif self.discovers:
            from csagent.discovery import drives

            if drives.worth_a_look(self.system, labels):
                child = jobs.start_scout(self.system, labels)
                self.drives = [_Job(child, self._until(SCOUT_PATIENCE), "block devices with the label")]

    def _start_drive(self, device: str, why: str, *, given: bool) -> None:
        child = jobs.start_drive(self.system, device, self.settings.drive_labels, why, given=given)
        self.drives.append(_Job(child, self._until(LOADING_PATIENCE), why, device))

    def _until(self, patience: float) -> float:
        """When to give up on a drive: its own patience, and not long after the whole wait is over."""
        now = self.system.clock.monotonic()
        return min(now + patience, max(self.end, now + DRIVE_AT_LEAST))

    def _hear_drive(self, job: _Job) -> None:
        from csagent.sources import checks

        try:
            document = job.child.result()
            if not job.device:
                found = checks.decode_all(Drive, document)
                self.found = self.found._replace(drives=found)
                for drive in found[:MAX_DRIVES]:
                    self._start_drive(drive.device, drive.why, given=False)
                return
            news = checks.drive_news(document)
        except JailError as error:
            self._failed(job, "malformed", str(error))
            return
        self.drive_places[job.device] = news.place
        self.drive_readings.pop(job.device, None)
        if news.reading is not None:
            self.drive_readings[job.device] = news.reading
            if news.reading.instance_id is not None and self._is_ours(news.reading.instance_id):
                self.drive_read_at = self.system.clock.monotonic()

    def _is_ours(self, instance_id: str) -> bool:
        """Whether a drive is worth hurrying for: not where DMI says that it is another VM's."""
        from csagent import validation

        return not validation.is_anothers(instance_id, self._dmi())

    def _dmi(self) -> Platform:
        from csagent.discovery.dmi import read_dmi

        if self.platform is None:
            self.platform = read_dmi(self.system)
        return self.platform

    # --- the places ---

    def _places(self) -> List[Place]:
        places = [*self.router_places, *self.drive_places.values()]
        if self.wants_router and not self.router_places:
            places.insert(0, Place("router", "leases and default routes", "absent", self._why_no_router()))
        if self.wants_drive and not self.drive_places:
            why = f"block devices with the label {', '.join(self.settings.drive_labels)}"
            detail = "no device carries it" if self.discovers else "not looked for in a tree"
            places.append(Place("drive", why, "absent", detail))
        return places

    def _why_no_router(self) -> str:
        if self.router is not None:
            return "still starting when the time was up"
        if self.options.router is not None:
            return f"{self.options.router[0]} does not resolve to an address"
        if not self.discovers:
            return "not looked for in a tree (name one with --router)"
        return "no candidate: no lease with an address behind it, and no default route"
