"""The daemon: a pass at the start, while something may still turn up, on an event, at each poll.

It sleeps until udev, a lease file, the network, the wall clock or a signal wakes it, or a pass is due
(`csagent.daemon.schedule`). Each pass runs in a process of its own (`csagent.daemon.pass_process`): this one
stays small, and imports little.
"""

from __future__ import annotations

import select
import time

from csagent.daemon import pass_process
from csagent.daemon.schedule import CLOSE_LOOK, NEVER, PassReport, Schedule
from csagent.daemon.watch import Watch
from csagent.errors import JailError, UsageError
from csagent.system.process import wait_for_orphans
from csagent.system.slowness import Patience
from csagent.system.systemd import Signals, Watchdog, notify

TYPE_CHECKING = False  # the resident daemon does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence

    from csagent.log import Log

BEGINNING = 30.0  # seconds until a pass has read the settings
STOP_PATIENCE = 10.0  # seconds that a pass has to finish the action it is at
SLACK = 90.0  # seconds beyond all its waits after which a pass is taken for stuck
LONGEST = 3600.0  # seconds of a pass that is starved of processor time


def readable(waiting: Sequence[Any], seconds: Optional[float]) -> Sequence[Any]:
    """Those that are readable; none of them after so many seconds, or never where that is None."""
    return select.select(waiting, [], [], seconds)[0]


class Daemon:
    """The loop.

    Args:
        prepare: makes the system, settings and options of a pass (`csagent.daemon.pass_process.start`).
        log: where decisions go.
        wait: seconds of the close look; None: `CLOSE_LOOK`.
        start: begins a pass.
        now: the monotonic clock.
        sleep: returns those of its first argument that are readable, after so many seconds if none is.
    """

    def __init__(
        self,
        prepare: pass_process.Prepare,
        log: Log,
        wait: Optional[float] = None,
        *,
        start: Callable[..., pass_process.PassProcess] = pass_process.start,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[Sequence[Any], Optional[float]], Sequence[Any]] = readable,
    ) -> None:
        self.prepare, self.log = prepare, log
        self.start, self.now, self.sleep = start, now, sleep
        self.schedule = Schedule(now(), CLOSE_LOOK if wait is None else wait)
        self.watchdog = Watchdog()
        self.signals = Signals()
        self.watch = Watch(log)
        self.world: Dict[str, Any] = {}  # settings and what to watch, as the last pass said
        self.process: Optional[pass_process.PassProcess] = None
        self.report: Dict[str, Any] = {}  # the last thing that it has said of itself
        self.patience: Optional[Patience] = None  # with the pass under way
        self.reload_wanted = False
        self.rereading = False  # the pass under way reads the settings anew
        self.complaint = self.note = ""

    def run(self) -> int:
        """Until SIGTERM; 0 then.

        Raises:
            UsageError: the settings or the command line are wrong, at the start.
        """
        # What waits for the first pass is a unit of its own (systemd/csagent-first-pass.service).
        notify("READY=1", "STATUS=looking for the virtual router and the config drive")
        try:
            while not self.signals.stop:
                self._reload_if_asked()
                if self.process is None and self.now() >= self.schedule.due:
                    self._begin()
                self._wait()
            notify("STOPPING=1")
            self._let_finish()
        finally:
            self.watch.close()
            if self.process is not None:
                self.process.end()
        return 0

    # --- one step ---

    def _wait(self) -> None:
        """Sleep until something happens, and take it in."""
        self.watchdog.feed()
        now = self.now()
        stuck_at = NEVER if self.patience is None else self.patience.ends
        moments = [self.schedule.due if self.process is None else min(stuck_at, self.schedule.cut_at)]
        moments += [now + self.watchdog.left(), self.watch.next_look]
        left = max(0.0, min(moments) - now)
        waiting: List[Any] = [self.signals, *self.watch.sources]
        waiting += [self.process] if self.process is not None else []
        ready = self.sleep(waiting, None if left == NEVER else left)
        if self.signals in ready:
            self.signals.drain()
            if self.process is None:
                wait_for_orphans()  # else when the pass has ended, whose status is not to be taken away
        self._hear_pass(ready)
        for name in self.watch.news(ready):
            self.event(name)
        if self.process is not None and self.now() >= self.schedule.cut_at:
            self.schedule.cut()
            self.process.stop()

    def event(self, name: str) -> None:
        """Take in a change that a watcher has reported."""
        if self.schedule.event(name, self.now()):
            self.log.debug(f"{name} event", event=name)

    # --- the pass ---

    def _begin(self) -> None:
        now = self.now()
        self.rereading, self.reload_wanted = self.reload_wanted, False
        request = {
            "settings": None if self.rereading else self.world.get("settings"),
            "wait": self.schedule.source_wait(now),
            "grace": self.schedule.grace(now, rereading=self.rereading),
            "quiet": self.schedule.quiet,
        }
        wait_for_orphans()  # of a pass that was killed, which may have ended after it
        self.schedule.begin(now)
        try:
            self.process = self.start(self.prepare, request, self.log)
            self.patience = Patience(self.process.pid, BEGINNING + SLACK, now, LONGEST)
        except JailError as error:
            self._failed(str(error))

    def _hear_pass(self, ready: Sequence[Any]) -> None:
        """Take in what the pass says; at its end, have the next one scheduled."""
        if self.process is None:
            return
        if self.process not in ready:
            if self.patience is not None and self.patience.over(self.now()):
                self._say_failed("the pass is stuck; it is ended, and no other begun before it is gone")
                # What hangs in the kernel does not end at once.
                self.patience = Patience(self.process.pid, SLACK, self.now(), SLACK)
                self.process.end()
            return
        for document in self.process.documents():
            if "settings" in document:
                self._learn(document)
            elif "takes" in document:
                self._wait_for(float(self.world["longest"]) + float(document["takes"]))
            else:
                self.report = document
        if self.process.finished:
            self.process = None
            wait_for_orphans()
            self.schedule.ended()
            self._end(self.report)

    def _learn(self, world: Dict[str, Any]) -> None:
        self.world = world
        self.watch.of(world)
        self._wait_for(float(world["longest"]))
        if self.rereading:
            self.log.info("settings reread", event="reload")
            self._reloaded()

    def _wait_for(self, seconds: float) -> None:
        """The pass may take so long from now on."""
        if self.process is not None:
            self.patience = Patience(self.process.pid, seconds + SLACK, self.now(), LONGEST)

    def _reloaded(self) -> None:
        self.rereading = False
        notify("READY=1")  # sd_notify(3), RELOADING=1

    def _end(self, report: Dict[str, Any]) -> None:
        if report.get("usage") and not self.world:
            raise UsageError(str(report["error"]))
        if report.get("usage") and self.rereading:
            self.log.error(f"{report['error']}; the old settings stay", event="reload")
            self._reloaded()
            self.schedule.again()  # the pass itself is still to come
        elif "error" in report:
            self._failed(str(report["error"]))
        elif "interrupted" in report:
            self.schedule.again()
        else:
            self._passed(report)
        if self.reload_wanted and not self.schedule.failing:
            self.schedule.again()

    def _failed(self, complaint: str) -> None:
        self._say_failed(complaint)
        if self.rereading:  # it did not come to that: the next one shall
            self._reloaded()
            self.reload_wanted = True
        self.schedule.failed(self.now())

    def _say_failed(self, complaint: str) -> None:
        if complaint != self.complaint:  # once, however long it lasts
            self.log.error(complaint, event="failed")
        self.complaint = complaint
        notify(f"STATUS=the last pass failed: {complaint}")

    def _passed(self, report: Dict[str, Any]) -> None:
        self.complaint = ""
        if report["note"] and report["note"] != self.note:
            self.log.warning(report["note"])
        self.note = report["note"]
        notify(f"STATUS={report['status']}")
        self.schedule.passed(PassReport(report), float(self.world["poll"]), self.now())

    # --- signals ---

    def _reload_if_asked(self) -> None:
        """SIGHUP: read the settings again and run a pass now, once the one under way has let go."""
        if not self.signals.reload:
            return
        self.signals.reload = False
        self.reload_wanted = True
        notify("RELOADING=1", f"MONOTONIC_USEC={int(self.now() * 1_000_000)}")
        self.schedule.again()
        if self.process is not None:
            self.process.stop()

    def _let_finish(self) -> None:
        """Let the pass finish the action that it is at."""
        if self.process is None:
            return
        self.process.stop()
        end = self.now() + STOP_PATIENCE
        while self.process is not None and self.now() < end:
            self.sleep([self.process], max(0.0, end - self.now()))
            self.process.documents()
            if self.process.finished:
                self.process = None
