"""Stage one for all candidates: who is the virtual router of this VM?

Every candidate is asked in a thread of its own and, where the caller waits for a router, again on its own
schedule, so that a silent one holds up nobody.
"""

from __future__ import annotations

import queue
import random
from typing import Callable, Dict, Optional, Sequence, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.model import Candidate, Platform
from csagent.sources.router.names import Lookup, Name
from csagent.sources.router.probe import Probe
from csagent.sources.router.threads import SLACK_SECONDS, start
from csagent.system.seams import System
from csagent.validation import is_proven

GRACE_SECONDS = 1.0  # for better-ranked candidates, once one has been believed
BACKOFF = (0.3, 0.8, 10.0)  # seconds: the first pause, the longest of the first two minutes, the longest
EARLY_SECONDS = 120.0
REST_LIMIT = 10.0  # seconds; see `rest_after`
CANDIDATES_LIMIT = 12  # three sockets each while they are asked, and the child may open 64 files


def pause_after(attempts: int, elapsed: float, jitter: float) -> float:
    """Seconds between the starts of two attempts: exponential, and short enough early on that a router
    is noticed within a second of appearing.

    Args:
        attempts: how many there have been, at least 1.
        elapsed: seconds since the first.
        jitter: 0 to 1.
    """
    first, early, late = BACKOFF
    longest = early if elapsed < EARLY_SECONDS else late
    steps = min(attempts - 1, 64) if elapsed < EARLY_SECONDS else int((elapsed - EARLY_SECONDS) / 10) + 4
    return min(longest, first * 1.3 ** min(steps, 64)) * (0.75 + 0.25 * jitter)


def rest_after(spent: float, jitter: float) -> float:
    """Seconds to leave a router alone that took `spent` seconds to say nothing useful.

    A router that is slow to answer has many VMs to serve: 1,000 that boot together must not ask the faster
    the longer it takes. In proportion to what the answer took, this is nothing for a router that is just
    starting, and grows with the load by itself.
    """
    return min(2.0 * spent, REST_LIMIT) * (0.5 + 0.5 * jitter)


def taken_by(asked: Sequence[Candidate], one: Candidate) -> Tuple[str, ...]:
    """The addresses that are asked anyway, from where this candidate would be asked."""
    return tuple(
        other.address for other in asked if other.address != DATA_SERVER and other.source == one.source
    )


class Search:
    """The candidates of one read, each asked at least once.

    Args:
        system: its dialer and clock are used.
        candidates: best first; repeats, and those past `CANDIDATES_LIMIT`, are left out.
        platform: what DMI says.
        deadline: on the monotonic clock.
        resolve: how "data-server." is resolved, once for each NIC that has it.
        beside: called with each probe that is about to be asked.
    """

    def __init__(
        self,
        system: System,
        candidates: Sequence[Candidate],
        platform: Platform,
        deadline: float,
        resolve: Lookup,
        beside: Callable[[Probe], None],
    ) -> None:
        self._system = system
        self._platform = platform
        self._deadline = deadline
        self._beside = beside
        unique: Dict[Tuple[str, int, Optional[str]], Candidate] = {}
        for candidate in candidates:
            unique.setdefault((candidate.address, candidate.port, candidate.source), candidate)
        asked = tuple(unique.values())[:CANDIDATES_LIMIT]
        self.left_out = tuple(unique.values())[CANDIDATES_LIMIT:]
        self.probes = tuple(
            Probe(
                system, rank, candidate, deadline, self._name(candidate, resolve), taken_by(asked, candidate)
            )
            for rank, candidate in enumerate(asked)
        )
        self._reports: queue.SimpleQueue[Probe] = queue.SimpleQueue()
        self._began = system.clock.monotonic()

    def _name(self, candidate: Candidate, resolve: Lookup) -> Optional[Name]:
        return Name(self._system.clock, candidate, resolve) if candidate.address == DATA_SERVER else None

    def choose(self, until: float, *, repeat: bool, tell: Callable[[], None]) -> Optional[Probe]:
        """The best-ranked candidate that is believed; None where there is none by `until`.

        One whose id is DMI's own outranks those whose id cannot be compared with it.
        `repeat` asks again those that gave nothing; `tell` is called when something may have changed.
        """
        clock = self._system.clock
        first_believed: Optional[float] = None
        for probe in self.probes:
            self._launch(probe)
        while True:
            now = clock.monotonic()
            believed = [probe for probe in self.probes if probe.instance_id and not probe.pending]
            if believed:
                first_believed = first_believed or now
                proven = [one for one in believed if is_proven(one.instance_id or "", self._platform)]
                best = (proven or believed)[0]
                unsure = not proven and is_proven(self._platform.uuid or "", self._platform)
                rivals = self.probes if unsure else self.probes[: best.rank]
                better = [one for one in rivals if one.pending]
                if not better or now >= min(first_believed + GRACE_SECONDS, self._deadline):
                    return best
            waking = [until + SLACK_SECONDS]
            if first_believed is not None:
                waking.append(first_believed + GRACE_SECONDS)
            for probe in self.probes:
                if probe.retry_at is not None and now < until:
                    if probe.retry_at <= now:
                        self._launch(probe)
                    else:
                        waking.append(probe.retry_at)
            idle = not any(probe.pending for probe in self.probes)
            if not believed and ((idle and not repeat) or now >= until + SLACK_SECONDS):
                return None
            if idle and repeat and now >= until:
                return None
            if not believed:
                tell()
            self._collect(min(waking) - clock.monotonic(), repeat=repeat)

    def _launch(self, probe: Probe) -> None:
        probe.pending, probe.retry_at = True, None
        probe.began = self._system.clock.monotonic()
        probe.attempts += 1
        self._beside(probe)

        def work() -> None:
            try:
                probe.attempt(self._platform)
            finally:
                self._reports.put(probe)

        if not start(work):
            work()

    def _collect(self, patience: float, *, repeat: bool) -> None:
        """Take in reports: one if it comes within `patience`, and whatever else is there."""
        clock = self._system.clock
        try:
            probe = (
                self._reports.get(timeout=max(0.0, patience)) if patience > 0 else self._reports.get_nowait()
            )
            while True:
                probe.pending = False
                if repeat and probe.instance_id is None and not probe.folded:
                    now = clock.monotonic()
                    pause = pause_after(probe.attempts, now - self._began, random.random())
                    rest = 0.0 if probe.unreached else rest_after(now - probe.began, random.random())
                    probe.retry_at = max(probe.began + pause, now + max(0.02, rest))
                probe = self._reports.get_nowait()
        except queue.Empty:
            return

    def close(self) -> None:
        """Let go of all connections."""
        for probe in self.probes:
            probe.close()
