"""The virtual router: one child at a time finds the candidates and reads the one that is believed.

Its limit of processor time is for one read, not for a long wait, so that in a long wait one child follows
another; and where the leases change under it, it makes room for one that begins with the new ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Optional, Sequence, Tuple

from csagent.errors import JailError
from csagent.model import Found, Place, Platform, Reading
from csagent.sources import jobs
from csagent.sources.reader import AS_THEY_COME, NEVER, Running, news_of, over, restart_pause, too_late

if TYPE_CHECKING:
    from csagent.sandbox.broker import Connected
    from csagent.sources.request import PassRequest

LIFE = 30.0  # seconds that one child asks
LEAST = 2.0  # seconds, however late in the wait it begins
SLACK = 2.0  # seconds beyond its deadline until it is given up
FAILED_PAUSE = 2.0  # seconds before another child where one has died
LAST_WORDS = 0.7  # seconds that a child has to say what it found before it is ended


class RouterReader:
    """The channel `router` of one observation (`csagent.sources.reader.Source`).

    Args:
        request: the pass.
        end: when the whole wait is over, on the monotonic clock.
        dmi: what DMI says; read in this process, since it decides whose data these may be.
        starting: called just before a child begins to look at the leases.
    """

    def __init__(
        self,
        request: "PassRequest",
        end: float,
        dmi: Callable[[], Platform],
        starting: Callable[[], None],
    ) -> None:
        self.found = Found()
        self.readings: Tuple[Reading, ...] = ()
        self._request = request
        self._clock = request.system.clock
        self._end = end
        self._dmi = dmi
        self._starting = starting
        self._places: Tuple[Place, ...] = ()
        self._running: Optional[Running] = None
        self._connected: Optional["Connected"] = None  # of the child that runs, or ran last
        self._announced: Any = None  # what the child has found, before it heard from anybody
        self._so_far: Any = None  # the newest report on its way
        self.slowness = 1.0
        self.asked_at: Optional[float] = None  # when a child knew for the first time whom to ask
        self._started = 0.0
        self._announced_at: Optional[float] = None
        self._life = LIFE
        self._again_at: Optional[float] = None
        self._stale = False  # the leases have changed since the child began
        self._restarts = 0  # for that reason
        self._believes = False  # the child has found the router, and reads it

    @property
    def running(self) -> Sequence[Running]:
        return () if self._running is None else (self._running,)

    @property
    def moments(self) -> Iterable[float]:
        moments = (self._again_at, self._makes_room_at() if self._stale else None)
        return [moment for moment in moments if moment is not None]

    @property
    def waits(self) -> bool:
        """Whether a child is at work, or will be."""
        return self._running is not None or self._again_at is not None

    @property
    def satisfied(self) -> bool:
        """Whether a router was read to its end."""
        return self._running is None and bool(self.readings)

    def begin(self) -> None:
        self._start()

    def wait_for_a_lease(self) -> None:
        """Nobody can be asked yet: a child starts once the leases change."""
        self.found = self.found._replace(platform=self._dmi())

    def _start(self) -> None:
        if self._running is not None:
            self._running.child.kill()
        self._starting()
        now = self._clock.monotonic()
        end = self._end - min(LAST_WORDS, (self._end - now) / 2)
        self._life = max(min(LIFE, end - now), LEAST if self._request.patient else 0.0)
        child = jobs.start_router(self._request, self._life, None if self._request.patient else end)
        self._connected = child.connected
        self._running = Running(child, child.time_to_prepare(), "find and read the virtual router")
        self._announced = self._so_far = self._announced_at = None
        self._started = now
        self._stale = self._believes = False
        self._again_at = None

    def changed(self) -> None:
        if not self.readings:
            self._stale = True
            self._start_what_is_due(self._clock.monotonic())

    def tick(self, now: float) -> None:
        for one in over(self.running, now):
            self._fail(one, "timeout", too_late(one))
        self._start_what_is_due(now)

    def _start_what_is_due(self, now: float) -> None:
        """Another child; none after the end: what has changed by then is for the next pass."""
        if self.readings or now >= self._end:
            return
        if self._stale and now >= self._makes_room_at():
            self._restarts += 1
            self._start()
        elif self._again_at is not None and now >= self._again_at:
            self._start()

    def _makes_room_at(self) -> float:
        """When a child has had its chance with the leases as they were; a slow one gets a longer one."""
        pause = restart_pause(self._restarts)
        if self._running is None:
            return self._started + pause
        if self._announced_at is None or (self._believes and self._restarts >= AS_THEY_COME):
            return NEVER
        return self._announced_at + pause * self.slowness

    def collect(self, ready: Sequence[Any]) -> None:
        if news_of(self._running, ready):
            self._take()

    def stop(self) -> None:
        if self._running is not None:
            self._take()
        if self._running is not None:
            self._running.child.kill()

    def _take(self) -> None:
        """What the child has said since the last time; at its end, its answer."""
        one = self._running
        if one is None:
            return
        try:
            for document in one.child.collect():
                if isinstance(document, dict) and self._announced is None and set(document) == {"found"}:
                    self._announce(document)
                elif isinstance(document, dict) and set(document) == {"so_far"}:
                    self._so_far = document["so_far"]
                elif document == {"believes": True}:
                    self._believes = True
            if one.child.finished:
                self._running = None
                self._report(one.child.result())
                if self.found.candidates:
                    self._again(0.0)
            elif self._so_far is not None:
                self._report(self._so_far)
        except JailError as error:
            self._fail(one, "malformed", str(error))

    def _announce(self, document: Any) -> None:
        """What it says before it hears from anybody: who may be believed, and acknowledged to."""
        from csagent.sources import checks

        if self._running is not None:
            child = self._running.child
            self.slowness, self._announced_at = child.slowness, self._clock.monotonic()
            self._running = self._running._replace(patience=child.time_to_work(self._life + SLACK))
            self.asked_at = self._announced_at if self.asked_at is None else self.asked_at
        self._announced = checks.found_news(document)
        self.found = self._announced._replace(drives=self.found.drives, platform=self._dmi())

    def _report(self, document: Any) -> None:
        from csagent.sources import checks

        if self._announced is None:
            raise JailError("the router reader has not said whom it would ask")
        connected = None if self._connected is None else self._connected.endpoints()
        news = checks.router_news(document, self._announced, connected)
        self.readings, self._places = news.readings, news.places

    def _fail(self, one: Running, outcome: str, detail: str) -> None:
        one.child.kill()
        self._running = None
        # It had its time: another one gets no more of it beside a drive.
        self.asked_at = self._clock.monotonic() if self.asked_at is None else self.asked_at
        self._places += (Place("router", one.why, outcome, detail),)
        self._again(FAILED_PAUSE)

    def _again(self, pause: float) -> None:
        """Another child, where there is time for one."""
        at = self._clock.monotonic() + pause
        if not self._request.once and not self.readings and at < self._end - LAST_WORDS:
            self._again_at = at

    @property
    def places(self) -> Tuple[Place, ...]:
        if self._places:
            return self._places
        return (Place("router", "leases and default routes", "absent", self._why_none()),)

    def _why_none(self) -> str:
        if self._running is not None:
            return "still starting when the time was up"
        if self._request.options.router is not None:
            return f"{self._request.options.router[0]} does not resolve to an address"
        if not self._request.discovers:
            return "not looked for in a tree (name one with --router)"
        return "no candidate: no lease with an address behind it, and no default route"
