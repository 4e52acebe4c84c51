"""The config drives: one child lists those with the label, and each is read by a child of its own.

A bad drive cannot cost another one's answer, nor the router's. Of several drives the first of the list counts
first, whichever is read first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from csagent.errors import JailError
from csagent.model import Drive, Place, Platform, Reading
from csagent.sources import jobs
from csagent.sources.reader import AS_THEY_COME, Running, over, restart_pause, too_late

if TYPE_CHECKING:
    from csagent.sandbox.child import Child
    from csagent.sources.request import PassRequest
    from csagent.system.slowness import Patience

PATIENCE = 6.0  # seconds for an image (field/dependencies#3)
SCOUT_PATIENCE = 20.0
AT_LEAST = 2.0  # seconds, however short the wait is
MAX_DRIVES = 8


class DriveReaders:
    """The channel `drive` of one observation (`csagent.sources.reader.Source`).

    Args:
        request: the pass.
        end: when the whole wait is over, on the monotonic clock.
        dmi: what DMI says.
        starting: called just before the drives are looked for.
    """

    def __init__(
        self,
        request: "PassRequest",
        end: float,
        dmi: Callable[[], Platform],
        starting: Callable[[], None],
    ) -> None:
        self.drives: Tuple[Drive, ...] = ()
        self.read_at: Optional[float] = None  # when one was read that may be this VM's
        self.took = 0.0  # seconds from the beginning to `read_at`
        self._request = request
        self._clock = request.system.clock
        self._end = end
        self._dmi = dmi
        self._starting = starting
        self._began = 0.0
        self._stale = False  # the drives have changed since the children began
        self._restarts = 0  # for that reason
        self._running: List[Running] = []
        self._readings: Dict[str, Reading] = {}
        self._places: Dict[str, Place] = {}

    @property
    def running(self) -> Sequence[Running]:
        return self._running

    @property
    def moments(self) -> Iterable[float]:
        return ()

    def begin(self) -> None:
        for one in self._running:
            one.child.kill()
        self._starting()
        self._running, self._readings, self._places = [], {}, {}
        self.read_at = None
        self._stale = False
        self._began = self._clock.monotonic()
        if self._request.options.drive is not None:
            self._read(self._request.options.drive, "given by --drive", given=True)
        elif self._request.discovers:
            from csagent.discovery import drives

            if drives.worth_a_look(self._request.system, self._request.settings.drive_labels):
                child = jobs.start_scout(self._request)
                self._running = [self._begun(child, "block devices with the label")]

    def _read(self, device: str, why: str, *, given: bool) -> None:
        child = jobs.start_drive(self._request, device, why, given=given)
        self._running.append(self._begun(child, why, device))

    def _begun(self, child: "Child", why: str, device: str = "") -> Running:
        return Running(child, self._bounded(child.time_to_prepare()), why, device)

    def _bounded(self, patience: "Patience") -> "Patience":
        """Over not long after the whole wait is, unless a slow child has what it needs."""
        if self._request.patient:
            return patience
        return patience.at_most(max(self._end, self._clock.monotonic() + AT_LEAST))

    def changed(self) -> None:
        self._stale = True
        self._start_what_is_due(self._clock.monotonic())

    def tick(self, now: float) -> None:
        for one in over(self._running, now):
            self._fail(one, "timeout", too_late(one))
        self._start_what_is_due(now)

    def _start_what_is_due(self, now: float) -> None:
        """All anew, at once at first; then what is under way has its time. None begins after the end."""
        if not self._stale or now >= self._end:
            return
        waits = self._running or now < self._began + restart_pause(self._restarts)
        if self._restarts < AS_THEY_COME or not waits:
            self._restarts += 1
            self.begin()

    def collect(self, ready: Sequence[Any]) -> None:
        for one in [one for one in self._running if one.child in ready]:
            try:
                one.child.drain()
                if one.child.finished:
                    self._running.remove(one)
                    self._take(one)
                elif one.child.ready and not one.ready:
                    self._works(one)
            except JailError as error:
                self._fail(one, "malformed", str(error))

    def _works(self, one: Running) -> None:
        """From here on it reads, and has its time for that."""
        patience = one.child.time_to_work(PATIENCE if one.device else SCOUT_PATIENCE)
        at = self._running.index(one)
        self._running[at] = one._replace(ready=True, patience=self._bounded(patience))

    def _take(self, one: Running) -> None:
        from csagent.sources import checks

        document = one.child.result()
        if not one.device:
            self._take_list(checks.decode_all(Drive, document))
            return
        news = checks.drive_news(document, one.device, one.why)
        self._places[one.device] = news.place
        if news.reading is None:
            return
        self._readings[one.device] = news.reading
        if news.reading.instance_id is not None and self._may_be_ours(news.reading.instance_id):
            self.read_at = self._clock.monotonic()
            self.took = self.read_at - self._began

    def _take_list(self, listed: Sequence[Drive]) -> None:
        """Begin to read those that may be read; the others are named, each with the reason."""
        from csagent.discovery import drives

        system, named = self._request.system, self._request.settings.drive_devices
        readable: List[Drive] = []
        for drive in {drive.device: drive for drive in listed}.values():
            reason = drives.why_not_node(system, drive.device, named)
            outcome = "refused"
            if not reason and len(readable) == MAX_DRIVES:
                outcome, reason = "skipped", f"not read: {MAX_DRIVES} drives with the label come before it"
            if reason:
                self._places[drive.device] = Place(f"drive {drive.device}", drive.why, outcome, reason)
            else:
                readable.append(drive)
        self.drives = tuple(readable)
        for drive in readable:
            self._places[drive.device] = Place(f"drive {drive.device}", drive.why, "timeout", "not read yet")
            self._read(drive.device, drive.why, given=False)

    def _may_be_ours(self, instance_id: str) -> bool:
        """Whether a drive is worth hurrying for: not where DMI says that it is another VM's."""
        from csagent import validation

        return not validation.is_anothers(instance_id, self._dmi())

    def _fail(self, one: Running, outcome: str, detail: str) -> None:
        one.child.kill()
        if one in self._running:
            self._running.remove(one)
        self._places[one.device] = Place(f"drive {one.device}".strip(), one.why, outcome, detail)

    def stop(self) -> None:
        for one in self._running:
            one.child.kill()

    @property
    def readings(self) -> Tuple[Reading, ...]:
        order = {drive.device: number for number, drive in enumerate(self.drives)}
        return tuple(self._readings[one] for one in sorted(self._readings, key=lambda one: order.get(one, 0)))

    @property
    def places(self) -> Tuple[Place, ...]:
        if self._places:
            return tuple(self._places.values())
        why = f"block devices with the label {', '.join(self._request.settings.drive_labels)}"
        detail = "no device carries it" if self._request.discovers else "not looked for in a tree"
        return (Place("drive", why, "absent", detail),)
