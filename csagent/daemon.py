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
    from csagent.system import System

CLOSE_LOOK = 120.0  # seconds after the start
FIRST_BUDGET = 30.0  # seconds after which systemd is told READY though nothing was found yet
PAUSE = 1.0  # seconds between passes of the close look; doubled with each that fails
LONGEST_PAUSE = 30.0
JITTER = 0.1  # of the poll period, so that a thousand VMs do not ask together
SLOW_LOOK = 5.0  # seconds between looks at the labels of the drives afterwards


class Signals:
    """Turns SIGTERM, SIGINT and SIGHUP into a readable descriptor."""

    def __init__(self) -> None:
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
        self.signals = Signals()
        self.ready = False
        self.last: Optional["Report"] = None
        self.said_nothing_found = False
        self.complaint = ""
        self.failures = 0

    def run(self) -> int:
        """Until SIGTERM; 0 then."""
        clock = self.system.clock
        start = clock.monotonic()
        notify("STATUS=looking for the virtual router and the config drive")
        while not self.signals.stop:
            left = start + self.close_look - clock.monotonic()
            if left > 0:
                # A drive that has been applied need not be hurried for again: the rest is for the router.
                grace = left if self._has_drive() else GRACE
                done = self._pass(wait=self._first_wait(left), grace=grace)
                self._be_ready()
                if not done:
                    if not (self.signals.stop or self.signals.reload):
                        self._pause(min(PAUSE * 2**self.failures, LONGEST_PAUSE))
                    continue
                start -= self.close_look  # everything answered: the close look is over
            else:
                self._pass(wait=self.settings.wait, grace=GRACE)
                self._be_ready()
            self._until_the_next()
        notify("STOPPING=1")
        return 0

    def _has_drive(self) -> bool:
        if self.last is None:
            return False
        return any(place.startswith("drive ") for place in self.last.observed.observation.provenance.values())

    def _first_wait(self, left: float) -> float:
        return left if self.ready else min(left, FIRST_BUDGET)

    def _be_ready(self) -> None:
        if not self.ready:
            self.ready = True
            notify("READY=1")

    def _pass(self, *, wait: float, grace: float) -> bool:
        """One pass; True where there is nothing more to wait for."""
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
        self.last = report
        self._tell(report)
        observation = report.observed.observation
        answered = {place.split(" ", 1)[0] for place in observation.provenance.values()}
        wanted_router = "router" in self.settings.sources and self.options.source in (None, "router")
        return (
            observation.source_found
            and observation.complete
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
        timeout = None if seconds == float("inf") else max(0.0, seconds)
        ready = select.select([self.signals], [], [], timeout)[0]
        if ready:
            self.signals.drain()
        return bool(ready)

    def _until_the_next(self) -> None:
        """Wait for the poll, a signal, or a change of the labels, leases and addresses."""
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
