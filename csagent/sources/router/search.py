"""Stage one for all candidates: who is the virtual router of this VM?

Every candidate is asked in a thread of its own and, where the caller waits for a router, again on its own
schedule, so that a silent one holds up nobody.
"""

from __future__ import annotations

import queue
import random
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.model import Candidate, Endpoint, Platform
from csagent.sources.router.names import Lookup, Name, resolver
from csagent.sources.router.probe import Probe
from csagent.sources.router.threads import SLACK_SECONDS, start
from csagent.system.seams import System
from csagent.validation import is_proven

GRACE_SECONDS = 1.0  # for better-ranked candidates, once one has been believed
FIRST_ANSWER_SECONDS = 12.0  # for what the default NIC's lease names: its connection and one reply
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


class Question(NamedTuple):
    """Who is to be asked, and until when."""

    system: System  # its dialer opens every connection, its clock measures
    candidates: Sequence[Candidate]  # best first
    platform: Platform  # DMI; where it is CloudStack's, its UUID must be the instance id
    deadline: float  # on the monotonic clock; nothing waits past it
    resolve: Optional[Lookup] = None  # how "data-server." is resolved; None: by each NIC's name servers


class Standing(NamedTuple):
    """Where a search stands: nobody is believed yet, or somebody is and better ones may be."""

    best: Optional[Probe] = None
    waits_until: float = 0.0  # for better ones, on the monotonic clock

    def settled(self, now: float) -> bool:
        """Whether the best is chosen."""
        return self.best is not None and now >= self.waits_until


def standing(
    probes: Sequence[Probe], platform: Platform, first_believed: float, slowness: float = 1.0
) -> Standing:
    """The best candidate that is believed so far, and until when better ones are waited for. Pure.

    One whose id is DMI's own outranks those whose id cannot be compared with it. Whoever is believed first
    by nothing but its own word defines who this VM is: so what the lease of the default NIC names is given
    the time to answer once, before another network's router, or an address that only a name or a route leads
    to, may take its place.

    Args:
        probes: best-ranked first.
        platform: what DMI says.
        first_believed: when the first of them was.
        slowness: see `csagent.system.slowness`.
    """
    believed = [probe for probe in probes if probe.instance_id and not probe.pending]
    if not believed:
        return Standing()
    proven = [one for one in believed if is_proven(one.instance_id or "", platform)]
    best = (proven or believed)[0]
    unsure = not proven and is_proven(platform.uuid or "", platform)
    better = [one for one in (probes if unsure else probes[: best.rank]) if one.pending]
    if not better:
        return Standing(best)
    first_time = [one for one in better if _is_named_by_default(one) and not one.done.is_set()]
    if first_time and not proven and not _is_named_by_default(best):
        return Standing(best, first_believed + slowness * FIRST_ANSWER_SECONDS)
    return Standing(best, first_believed + slowness * GRACE_SECONDS)


def _is_named_by_default(probe: Probe) -> bool:
    """Whether the lease of the default NIC names it."""
    return probe.candidate.default and probe.candidate.named


class Search:
    """The candidates of one read, each asked at least once.

    Args:
        question: candidates that repeat, and those past `CANDIDATES_LIMIT`, are left out.
    """

    def __init__(self, question: Question) -> None:
        system = question.system
        self._system = system
        self._platform = question.platform
        self._deadline = question.deadline
        self._beside: Callable[[Probe], None] = lambda _probe: None
        resolve = question.resolve or resolver(system)
        unique: Dict[Endpoint, Candidate] = {}
        for candidate in question.candidates:
            unique.setdefault(candidate.metadata_endpoint(), candidate)
        asked = tuple(unique.values())[:CANDIDATES_LIMIT]
        self.left_out = tuple(unique.values())[CANDIDATES_LIMIT:]
        self.probes = tuple(
            Probe(
                system,
                rank,
                candidate,
                question.deadline,
                Name(system.clock, candidate, resolve) if candidate.address == DATA_SERVER else None,
                taken_by(asked, candidate),
            )
            for rank, candidate in enumerate(asked)
        )
        self._reports: queue.SimpleQueue[Probe] = queue.SimpleQueue()
        self._began = system.clock.monotonic()

    def choose(
        self, *, repeat: bool, beside: Callable[[Probe], None], tell: Callable[[], None]
    ) -> Optional[Probe]:
        """The best-ranked candidate that is believed; None where there is none by the deadline.

        Args:
            repeat: those that gave nothing are asked again.
            beside: called with each probe that is about to be asked.
            tell: called when something may have changed.
        """
        self._beside, until = beside, self._deadline
        clock = self._system.clock
        first_believed: Optional[float] = None
        slack = clock.stretched(SLACK_SECONDS)
        for probe in self.probes:
            self._launch(probe)
        while True:
            now = clock.monotonic()
            if first_believed is None and any(one.instance_id and not one.pending for one in self.probes):
                first_believed = now
            state = standing(self.probes, self._platform, first_believed or now, clock.slowness)
            if state.settled(min(now, self._deadline)) or (state.best and now >= self._deadline):
                return state.best
            if self._gives_up(state, now, until, repeat=repeat):
                return None
            moments = [until + slack, *([state.waits_until] if state.best else [])]
            if now < until:
                moments += self._relaunch(now)
            if state.best is None:
                tell()
            self._collect(min(moments) - clock.monotonic(), repeat=repeat)

    def _gives_up(self, state: Standing, now: float, until: float, *, repeat: bool) -> bool:
        """Whether nobody will be believed any more."""
        idle = not any(probe.pending for probe in self.probes)
        if state.best is None and now >= until + self._system.clock.stretched(SLACK_SECONDS):
            return True
        return idle and state.best is None and (not repeat or now >= until)

    def _relaunch(self, now: float) -> List[float]:
        """Ask again whose time has come; when the others' comes."""
        later = []
        for probe in self.probes:
            if probe.retry_at is not None and probe.retry_at <= now:
                self._launch(probe)
            elif probe.retry_at is not None:
                later.append(probe.retry_at)
        return later

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
