"""When to run a pass: at the start, while something may still turn up, then at each poll, reload or event.

For two minutes after its start the daemon keeps looking closely, because DHCP and the virtual router may
come up after the VM (facts, 1.6); a config drive is applied meanwhile without waiting for any of it. It
waits in `select` and is ended or reloaded by a signal at any moment but in the middle of a change.
"""

from __future__ import annotations

import os
import random
import select
import signal
from typing import TYPE_CHECKING, Any, Callable, Optional

from csagent import agent
from csagent.children import Options
from csagent.errors import EXIT_NO_SOURCE, CsagentError, SettingsError
from csagent.find import finder
from csagent.observe import GRACE, Interrupted

if TYPE_CHECKING:
    from csagent.log import Log
    from csagent.plan import Report
    from csagent.settings import Settings
    from csagent.system import Clock, System

CLOSE_LOOK = 120.0  # seconds after the start
FIRST_BUDGET = 30.0  # seconds after which systemd is told READY though nothing was found yet
PAUSE = 1.0  # seconds between passes of the close look; doubled with each that fails
LONGEST_PAUSE = 30.0
JITTER = 0.1  # of the poll period, so that a thousand VMs do not ask together
SLOW_LOOK = 5.0  # seconds between looks at the labels of the drives afterwards


def pause_after(failures: int, unfinished: int, jitter: float) -> float:
    """Seconds until the next pass of the close look.

    Args:
        failures: passes in a row that failed on this machine.
        unfinished: passes in a row in which a source answered some questions and not others, as a router
            does that has too many VMs to serve; their repetition must not come at the same time.
        jitter: 0 to 1.
    """
    longest = min(PAUSE * 2.0 ** min(failures + unfinished, 16), LONGEST_PAUSE)
    return longest if not unfinished else PAUSE + (longest - PAUSE) * jitter


class Watchdog:
    """Tells systemd that the loop goes round, twice in the period it gave us (sd_watchdog_enabled(3))."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        period = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked = ours and period.isascii() and period.isdigit() and int(period) > 0
        self._period: float = int(period) / 2_000_000 if asked else float("inf")  # seconds
        self._due: float = clock.monotonic() + self._period

    def left(self) -> float:
        """Seconds until it is due; without end where systemd does not watch."""
        return max(0.0, self._due - self._clock.monotonic())

    def feed(self) -> None:
        """Say so, if it is due: this costs no wake-up where something else has woken us."""
        if self.left() <= 0:
            self._due = self._clock.monotonic() + self._period
            notify("WATCHDOG=1")


class Signals:
    """Turns SIGTERM, SIGINT and SIGHUP into a readable descriptor."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self.stop = False
        self.reload = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def _note(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._reading

    def alive(self) -> None:
        """The wait for it goes on: whoever waits is not stuck."""
        self._watchdog.feed()

    def drain(self) -> None:
        """Forget the bytes that made it readable; the flags stay."""
        try:
            while os.read(self._reading, 64):
                pass
        except BlockingIOError:
            pass


def notify(*assignments: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3)); without it, nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket

    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto("\n".join(assignments).encode(), address)
    except OSError:
        pass  # systemd will notice by itself that it was not told


class Daemon:
    """The loop."""

    def __init__(
        self,
        system: "System",
        settings: "Settings",
        options: Options,
        log: "Log",
        reread: Callable[[], "Settings"],
        wait: Optional[float] = None,
    ) -> None:
        self.system = system
        self.settings = settings
        self.options = options
        self.log = log
        self.reread = reread
        self.close_look = CLOSE_LOOK if wait is None else wait
        self.watchdog = Watchdog(system.clock)
        self.signals = Signals(self.watchdog)
        self.ready = False
        self.from_drive = False  # whether the last pass read one; the pass itself, with its secrets, is gone
        self.said_nothing_found = False
        self.complaint = ""
        self.failures = 0
        self.unfinished = 0

    def run(self) -> int:
        """Until SIGTERM; 0 then."""
        clock = self.system.clock
        start = clock.monotonic()
        notify("STATUS=looking for the virtual router and the config drive")
        while not self.signals.stop:
            left = start + self.close_look - clock.monotonic()
            if left > 0:
                # A drive that has been applied need not be hurried for again, unless the settings may have
                # changed: the rest is for the router.
                grace = left if self._has_drive() and not self.signals.reload else GRACE
                done = self._pass(wait=self._first_wait(left), grace=grace)
                self._be_ready()
                if not done:
                    if not (self.signals.stop or self.signals.reload):
                        self._pause(pause_after(self.failures, self.unfinished, random.random()))
                    continue
                start -= self.close_look  # everything answered: the close look is over
            else:
                self._pass(wait=self.settings.wait, grace=GRACE)
                self._be_ready()
            self._until_the_next()
        notify("STOPPING=1")
        return 0

    def _has_drive(self) -> bool:
        return self.from_drive

    def _first_wait(self, left: float) -> float:
        return left if self.ready else min(left, FIRST_BUDGET)

    def _be_ready(self) -> None:
        if not self.ready:
            self.ready = True
            notify("READY=1")

    def _pass(self, *, wait: float, grace: float) -> bool:
        """One pass; True where there is nothing more to wait for."""
        self.watchdog.feed()
        self._reload_if_asked()
        if self.signals.stop:
            return False
        try:
            report = agent.run_pass(
                self.system,
                self.settings,
                self.options,
                wait=wait,
                grace=grace,
                wake=self.signals,
                log=self.log.info,
            )
        except Interrupted:
            self.signals.drain()
            return False
        except CsagentError as error:
            if str(error) != self.complaint:  # once, however long it lasts
                self.log.error(str(error))
            self.complaint = str(error)
            self.failures += 1
            notify(f"STATUS=the last pass failed: {error}")
            return False
        except Exception as error:
            # A bug, or a machine at its end; either way the next event deserves another pass.
            self.log.error(f"the pass failed ({type(error).__name__})")
            self.failures += 1
            notify(f"STATUS=the last pass failed ({type(error).__name__})")
            return False
        self.complaint, self.failures = "", 0
        if report.note:
            self.log.warning(report.note)
        self._tell(report)
        observation = report.observed.observation
        self.from_drive = any(place.startswith("drive ") for place in observation.provenance.values())
        untold = any(outcome.acknowledged == "no" for outcome in report.outcomes)
        in_part = observation.source_found and (untold or not observation.complete)
        self.unfinished = self.unfinished + 1 if in_part else 0
        answered = {place.split(" ", 1)[0] for place in observation.provenance.values()}
        wanted_router = "router" in self.settings.sources and self.options.source in (None, "router")
        return (
            observation.source_found
            and observation.complete
            and not untold
            and (not wanted_router or "router" in answered or self.options.given)
        )

    def _tell(self, report: "Report") -> None:
        observation = report.observed.observation
        if report.exit_code == EXIT_NO_SOURCE:
            if not self.said_nothing_found:
                self.log.info("no CloudStack source found so far; still looking, quietly")
                self.said_nothing_found = True
                for place in observation.places:
                    self.log.debug(f"{place.place}: {place.outcome}, {place.detail}")
            notify("STATUS=no CloudStack source found so far")
            return
        self.said_nothing_found = False
        states = ", ".join(f"{outcome.datum} {outcome.state}" for outcome in report.outcomes)
        notify(f"STATUS=instance {observation.instance_id or 'unknown'}: {states}")

    def _reload_if_asked(self) -> None:
        if not self.signals.reload:
            return
        self.signals.reload = False
        self.signals.drain()
        notify("RELOADING=1", f"MONOTONIC_USEC={int(self.system.clock.monotonic() * 1_000_000)}")
        try:
            self.settings = self.reread()
            self.log.info("settings reread")
        except SettingsError as error:
            self.log.error(f"{error}; the old settings stay")
        if self.ready:
            notify("READY=1")

    def _pause(self, seconds: float) -> bool:
        """Wait; True where a signal ended it."""
        clock = self.system.clock
        end = clock.monotonic() + seconds
        while True:
            self.watchdog.feed()
            left = max(0.0, min(end - clock.monotonic(), self.watchdog.left()))
            if select.select([self.signals], [], [], None if left == float("inf") else left)[0]:
                self.signals.drain()
                return True
            if clock.monotonic() >= end:
                return False

    def _until_the_next(self) -> None:
        """Wait for the poll, a signal, or a change of the labels, leases and addresses."""
        if self.signals.stop or self.signals.reload:
            return  # it came during the pass, and has been taken out of the pipe
        clock = self.system.clock
        poll = self.settings.poll
        spread = 1.0 + random.uniform(-JITTER, JITTER)
        end = clock.monotonic() + poll * spread if poll > 0 else float("inf")
        watching = self.system.live and not self.options.given
        labels = self.settings.drive_labels
        marks = finder.watchmarks(self.system, labels) if watching else ()
        while True:
            left = end - clock.monotonic()
            if left <= 0 or self._pause(min(left, SLOW_LOOK) if watching else left):
                return
            if watching and finder.watchmarks(self.system, labels) != marks:
                return
