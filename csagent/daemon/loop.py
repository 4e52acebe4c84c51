"""When to run a pass: at the start, while something may still turn up, on an event, at each poll.

For two minutes after its start the daemon keeps looking closely, because DHCP and the virtual router may
come up after the VM (field/cloudstack#1.6); a config drive is applied meanwhile without waiting for any of
it. Then it sleeps until udev, a lease file, the network, the wall clock or a signal wakes it, or the poll is
due. Each pass runs in a process of its own (`csagent.daemon.pass_process`): this one stays small, and
imports little.
"""

from __future__ import annotations

import os
import select
import time

from csagent.daemon import pass_process
from csagent.daemon.watch import Watch
from csagent.errors import UsageError
from csagent.system.systemd import Signals, Watchdog, notify

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

    from csagent.log import Log

CLOSE_LOOK = 120.0  # seconds after the start
FIRST_BUDGET = 30.0  # seconds after which systemd is told READY though nothing was found yet
PAUSE = 1.0  # seconds between passes of the close look; doubled with each that fails
LONGEST_PAUSE = 30.0
EARLY_PAUSE = 5.0  # until a router that had no keys on an instance's first pass is asked again; doubled
RETRY = 10.0  # seconds after the close look until a source that is not there is asked for again; doubled
RETRY_WITHOUT_POLL = 300.0  # its longest, where the poll is off
JITTER = 0.1  # of the poll period, so that a thousand VMs do not ask together
SETTLE = 0.2  # seconds without a further event before the pass: udev tells of one medium two or three times
SETTLE_AT_MOST = 1.0
HURRY = 0.0  # seconds that the router gets once an exchanged drive is read, where it gave nothing before
GAP = 1.0  # seconds between the starts of two passes after events; doubled as long as they go on
LONGEST_GAP = 60.0  # but not for a drive
GRACE = 3.0  # else: such VMs usually have no router to wait for
STOP_PATIENCE = 10.0  # seconds that a pass has to finish the action it is at
SLACK = 90.0  # seconds beyond all its waits after which a pass is taken for stuck


def spread(middle: float, part: float) -> float:
    """A random number within `part` of `middle`."""
    chance = int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF
    return middle * (1.0 - part + 2.0 * part * chance)


def pause_after(failures: int, unfinished: int, jitter: float) -> float:
    """Seconds until the next pass of the close look.

    Args:
        failures: passes in a row that failed on this machine.
        unfinished: passes in a row in which a source answered some questions and not others, as a router
            does that has too many VMs to serve; their repetition must not come at the same time.
        jitter: 0 to 1.
    """
    longest: float = min(PAUSE * 2 ** min(failures + unfinished, 16), LONGEST_PAUSE)
    return longest if not unfinished else PAUSE + (longest - PAUSE) * jitter


def retry_after(tries: int, poll: float) -> float:
    """Seconds until a source that was not there is asked for again, after the close look.

    Args:
        tries: passes in a row that found none, at least 1.
        poll: the setting, in seconds; 0 where it is off.
    """
    wished: float = RETRY * 2 ** min(tries - 1, 16)
    return min(wished, poll or RETRY_WITHOUT_POLL)


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
        start: Callable[..., pass_process.Turn] = pass_process.start,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[Sequence[Any], Optional[float]], Sequence[Any]] = readable,
    ) -> None:
        self.prepare = prepare
        self.log = log
        self.start, self.now, self.sleep = start, now, sleep
        self.close_until = now() + (CLOSE_LOOK if wait is None else wait)
        self.watchdog = Watchdog()
        self.signals = Signals()
        self.watch = Watch(log)
        self.known: Dict[str, Any] = {}  # the last report that had settings in it
        self.turn: Optional[pass_process.Turn] = None
        self.report: Dict[str, Any] = {}
        self.turn_ends = 0.0
        self.began = float("-inf")
        self.gap = GAP  # seconds
        self.reload_wanted = False
        self.rereading = False  # whether the pass under way reads the settings anew
        self.ready = False
        self.ready_by = now() + FIRST_BUDGET
        self.due: float = 0.0  # when the next pass begins
        self.cut_at = float("inf")  # when the one under way is to let go, for a drive's sake
        self.has_cut = False
        self.settles_by: float = 0.0  # when a burst of events is not waited out any more
        self.events: Dict[str, float] = {}  # since the last pass began
        self.failures = self.unfinished = self.tries = 0
        self.early = 0  # passes since an instance's first one, in which the router had not everything
        self.found = True
        self.complaint = self.note = ""

    def run(self) -> int:
        """Until SIGTERM; 0 then.

        Raises:
            UsageError: the settings or the command line are wrong, at the start.
        """
        notify("STATUS=looking for the virtual router and the config drive")
        try:
            while not self.signals.stop:
                self._reload_if_asked()
                if self.turn is None and self.now() >= self.due:
                    self._begin()
                self._wait()
            notify("STOPPING=1")
            self._end_turn()
        finally:
            self.watch.close()
            if self.turn is not None:
                self.turn.kill()
        return 0

    # --- one step ---

    def _wait(self) -> None:
        """Sleep until something happens, and note it."""
        self.watchdog.feed()
        now = self.now()
        moments = [self.turn_ends if self.turn is not None else self.due, now + self.watchdog.left()]
        moments += [self.watch.next_look, self.cut_at]
        moments += [] if self.ready else [self.ready_by]
        left = max(0.0, min(moments) - now)
        waiting: List[Any] = [self.signals, *self.watch.sources]
        if self.turn is not None:
            waiting.append(self.turn)
        ready = self.sleep(waiting, None if left == float("inf") else left)
        if self.signals in ready:
            self.signals.drain()
        if self.turn is not None and self.turn in ready:
            self._hear()
        elif self.turn is not None and self.now() >= self.turn_ends:
            self._say_failed("the pass is stuck; it is ended, and no other begun before it is gone")
            self.turn_ends = self.now() + SLACK  # what hangs in the kernel does not end at once
            self.turn.kill()
        if self.now() >= self.ready_by:
            self._be_ready()
        for name in self.watch.news(ready):
            self._event(name)
        if self.turn is not None and self.now() >= self.cut_at:
            self.cut_at, self.has_cut = float("inf"), True
            self.turn.stop()

    def _event(self, name: str) -> None:
        """Something may have changed: one pass, when the burst is over."""
        now = self.now()
        if not self.events:
            self.settles_by = now + SETTLE_AT_MOST
        if name not in self.events:
            self.log.debug(f"{name} event", event=name)
        self.events[name] = now
        if now - self.began > 2 * self.gap:
            self.gap = GAP
        gap = GAP if "drive" in self.events else self.gap
        self.due = max(min(now + SETTLE, self.settles_by), self.began + gap)
        if name == "drive" and self._may_hurry() and self.turn is not None and not self.has_cut:
            # It waits for the router, or reads what is not there any more. Once only: a drive that tells
            # of itself for ever must not keep the router from being asked.
            self.cut_at = self.due

    def _may_hurry(self) -> bool:
        """Whether a drive's values need not wait for the router: it gave nothing to the last whole pass."""
        return "router" in self.known and not self.known["router"]

    # --- the pass ---

    def _begin(self) -> None:
        now = self.now()
        wait, grace = self._patience(now)
        request = {
            "settings": None if self.reload_wanted else self.known.get("settings"),
            "wait": wait,
            "grace": grace,
            "quiet": not self.found,
        }
        self.rereading, self.reload_wanted = self.reload_wanted, False
        # A NIC that flaps, or a route that comes and goes for ever, gets fewer and fewer passes.
        self.gap = min(2 * self.gap, LONGEST_GAP) if self.events else GAP
        self.events = {}
        self.began = now
        self.turn_ends = now + FIRST_BUDGET + SLACK
        try:
            self.turn = self.start(self.prepare, request, self.log)
        except OSError as error:
            self._failed(f"no process for a pass ({error.strerror})")

    def _patience(self, now: float) -> Tuple[Optional[float], float]:
        """Seconds to wait for a source, None for the setting's; and for the router once a drive is read."""
        left = self.close_until - now
        grace = HURRY if "drive" in self.events and self._may_hurry() else GRACE
        if left > 0:
            # A drive that has been applied need not be hurried for again: the rest is for the router.
            seen = bool(self.known.get("drive")) and "drive" not in self.events and not self.reload_wanted
            return (left if self.ready else min(left, FIRST_BUDGET)), (left if seen else grace)
        return None, grace

    def _hear(self) -> None:
        """Take in what the pass says; at its end, decide when the next one is due."""
        if self.turn is None:
            return
        for said in self.turn.collect():
            if "settings" in said:
                self._learn(said)
            else:
                self.report = said
        if self.turn.done:
            self.turn, self.cut_at = None, float("inf")
            self._end(self.report)

    def _learn(self, world: Dict[str, Any]) -> None:
        self.known = {**self.known, **world}
        self.watch.of(world)
        self.turn_ends = self.began + float(world["longest"]) + SLACK
        if self.rereading:
            self.log.info("settings reread", event="reload")
            self._reloaded()

    def _reloaded(self) -> None:
        self.rereading = False
        if self.ready:
            notify("READY=1")

    def _end(self, report: Dict[str, Any]) -> None:
        if report.get("usage") and not self.known:
            raise UsageError(str(report["error"]))
        if report.get("usage") and self.rereading:
            self.log.error(f"{report['error']}; the old settings stay", event="reload")
            self._reloaded()
            self.due = 0.0  # the pass itself is still to come
        elif "error" in report:
            self._failed(str(report["error"]))
        elif "interrupted" in report:
            self.due = 0.0
        else:
            self._passed(report)
        if self.reload_wanted and not self.failures:
            self.due = 0.0

    def _failed(self, complaint: str) -> None:
        self._say_failed(complaint)
        self.failures += 1
        if self.rereading:  # it did not come to that: the next one shall
            self._reloaded()
            self.reload_wanted = True
        self._be_ready()
        self._next(pause_after(self.failures, 0, 0.0))

    def _say_failed(self, complaint: str) -> None:
        if complaint != self.complaint:  # once, however long it lasts
            self.log.error(complaint, event="failed")
        self.complaint = complaint
        notify(f"STATUS=the last pass failed: {complaint}")

    def _passed(self, report: Dict[str, Any]) -> None:
        self.complaint, self.failures, self.has_cut = "", 0, False
        if report["note"] and report["note"] != self.note:
            self.log.warning(report["note"])
        self.note = report["note"]
        self.known.update(drive=report["drive"], router=report["router"])
        self.events = {
            name: at for name, at in self.events.items() if at >= report["current_at"] or name == "clock"
        }
        self.found = bool(report["found"])
        self.tries = 0 if report["finished"] else self.tries + 1
        self.unfinished = self.unfinished + 1 if report["partly"] else 0
        notify(f"STATUS={report['status']}")
        self._be_ready()
        self.early = self.early + 1 if report["early"] or (self.early and report["missing"]) else 0
        if report["finished"] and self.early and self.now() < self.close_until:
            # It tells who this is before it has been given all the rest.
            self._next(spread(EARLY_PAUSE * 2 ** (self.early - 1), JITTER))
        elif report["finished"]:
            self.close_until = 0.0  # everything answered: the close look is over
            poll = float(self.known["poll"])
            self._next(spread(poll, JITTER) if poll > 0 else float("inf"))
        elif self.now() < self.close_until:
            self._next(pause_after(0, self.unfinished, spread(0.5, 1.0)))
        else:
            self._next(spread(retry_after(self.tries, float(self.known["poll"])), JITTER))

    def _next(self, seconds: float) -> None:
        """The next pass is due then, if no event has come meanwhile that wants one sooner."""
        if not self.events:
            self.due = self.now() + seconds

    def _be_ready(self) -> None:
        if not self.ready:
            self.ready = True
            notify("READY=1")

    # --- signals ---

    def _reload_if_asked(self) -> None:
        """SIGHUP: read the settings again and run a pass now, once the one under way has let go."""
        if not self.signals.reload:
            return
        self.signals.reload = False
        self.reload_wanted = True
        notify("RELOADING=1", f"MONOTONIC_USEC={int(self.now() * 1_000_000)}")
        self.due = self.now()
        if self.turn is not None:
            self.turn.stop()

    def _end_turn(self) -> None:
        """Let the pass finish the action that it is at."""
        if self.turn is None:
            return
        self.turn.stop()
        end = self.now() + STOP_PATIENCE
        while self.now() < end:
            self.sleep([self.turn], max(0.0, end - self.now()))
            self.turn.collect()
            if self.turn.done:
                self.turn = None
                return
