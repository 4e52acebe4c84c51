"""When to run a pass, and how long it may wait. Pure: the moments of the monotonic clock are passed in.

For two minutes after its start the daemon looks closely, because DHCP and the virtual router may come up
after the VM (field/cloudstack#1.6). Then a pass is due at each poll, after an event, and, where a source is
missing, after longer and longer pauses.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the resident daemon does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Mapping, Optional

NEVER = float("inf")
CLOSE_LOOK = 120.0  # seconds after the start
FIRST_WAIT = 30.0  # of the first pass; the close look has several
PAUSE = 1.0  # seconds between passes of the close look; doubled with each that fails
LONGEST_PAUSE = 30.0
EARLY_PAUSE = 5.0  # until a router that had no keys on an instance's first pass is asked again; doubled
RETRY = 10.0  # seconds after the close look until a source that is not there is asked for again; doubled
RETRY_WITHOUT_POLL = 300.0  # its longest, where the poll is off
JITTER = 0.1  # of the poll period, so that a thousand VMs do not ask together
SETTLE = 0.2  # seconds without a further event before the pass: udev tells of one medium two or three times
SETTLE_AT_MOST = 1.0
GRACE = 3.0  # seconds that the router gets once a drive is read
HURRY = 0.0  # and where the drive, or what it is for, has just come; the router gave nothing before
GAP = 1.0  # seconds between the starts of two passes after events; doubled as long as they go on
LONGEST_GAP = 60.0
HURRIED_GAP = 4.0  # its longest after what is hurried for, as a NIC that a drive may name
NEW_ACCOUNT_TRIES = 6  # passes after one for a new account, while something fails: 1, 2, 4 ... s apart
MOST_DOUBLINGS = 16
OTHERS = ("account", "cloud-init")  # what other programs do: the account that was missing, cloud-init's end
HURRIED = ("drive", *OTHERS)
UNSEEN = ("clock", *OTHERS)  # a pass cannot tell whether that came before or after what it did about it


def chance() -> float:
    """A random number from 0 to 1."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


def doubled(first: float, times: int, longest: float) -> float:
    """`first`, doubled so many times, and at most `longest`."""
    return min(first * 2.0 ** min(max(times, 0), MOST_DOUBLINGS), longest)


def close_look_pause(unfinished: int, chance: float) -> float:
    """Seconds until the next pass of the close look.

    Args:
        unfinished: passes in a row in which a source answered some questions and not others, as a router
            does that has too many VMs to serve; their repetition must not come at the same time.
        chance: 0 to 1.
    """
    longest = doubled(PAUSE, unfinished, LONGEST_PAUSE)
    return PAUSE + (longest - PAUSE) * chance


class PassReport:
    """What a pass says of itself (`csagent.daemon.pass_process.start`)."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.found = bool(document["found"])  # a source was believed
        self.finished = bool(document["finished"])  # everything that is wanted has answered
        self.partly = bool(document["partly"])  # a source answered some questions and not others
        self.missing = bool(document["missing"])  # the router had no keys, or no name
        self.early = bool(document["early"])  # the same, on an instance's first pass
        self.failed = bool(document["failed"])  # something that is the account's could not be set
        self.drive = bool(document["drive"])  # a drive gave something
        self.router = bool(document["router"])  # the router gave something
        self.nics = bool(document["nics"])  # a drive says what addresses the NICs have
        self.current_at = float(document["current_at"])  # events before that moment are accounted for


class Schedule:
    """The daemon's timing.

    Args:
        now: the moment of the start.
        close_look: seconds of the close look.
        chance: gives a random number from 0 to 1.
    """

    def __init__(self, now: float, close_look: float, chance: Callable[[], float] = chance) -> None:
        self.due = 0.0  # when the next pass begins
        self.cut_at = NEVER  # when the one under way is to let go, for what is hurried for
        self.quiet = False  # nothing was found before: to find nothing again is no news
        self._chance = chance
        self._close_until = now + close_look
        self._began = -NEVER
        self._gap = GAP
        self._events: Dict[str, float] = {}  # since the last pass began
        self._settles_by = 0.0  # when a burst of events is not waited out any more
        self._cut = False  # a pass was cut since the last whole one
        self._last: Optional[PassReport] = None
        self._failures = self._unfinished = self._tries = self._early = 0
        self._new_account = 0  # tries that are left for one that has been made

    # --- what happens ---

    def event(self, name: str, now: float) -> bool:
        """Something may have changed: one pass, when the burst is over. Whether it is the burst's first."""
        if not self._events:
            self._settles_by = now + SETTLE_AT_MOST
        first = name not in self._events
        self._events[name] = now
        if now - self._began > 2 * self._gap:
            self._gap = GAP
        gap = GAP if any(name in HURRIED for name in self._events) else self._gap
        self.due = max(min(now + SETTLE, self._settles_by), self._began + gap)
        if self._hurries(name) and self._may_hurry() and not self._cut:
            # The pass under way waits for the router, or reads what is not there any more. It is cut once
            # only: a drive that tells of itself for ever must not keep the router from being asked.
            self.cut_at = self.due
        return first

    def _hurries(self, name: str) -> bool:
        """Whether what a drive says has to do with an event.

        That is its medium, a NIC that it may name, or somebody who is to have its key and password.
        """
        return name in HURRIED or (name == "network" and self._last is not None and self._last.nics)

    def _hurried(self) -> bool:
        """Whether such an event has come since the last pass began."""
        return any(self._hurries(name) for name in self._events)

    def _may_hurry(self) -> bool:
        """Whether a drive's values need not wait for the router: it gave nothing to the last whole pass."""
        return self._last is not None and not self._last.router

    def begin(self, now: float) -> None:
        """A pass begins."""
        # A NIC that flaps, or a route that comes and goes for ever, gets fewer and fewer passes.
        longest = HURRIED_GAP if self._hurried() else LONGEST_GAP
        self._gap = min(2 * self._gap, longest) if self._events else GAP
        if "account" in self._events:
            self._new_account = NEW_ACCOUNT_TRIES
        self._events = {}
        self._began = now
        self.cut_at = NEVER  # what has happened so far is this pass's own

    def cut(self) -> None:
        """The pass under way was told to let go."""
        self.cut_at, self._cut = NEVER, True

    def ended(self) -> None:
        """The pass under way is over, whatever came of it."""
        self.cut_at = NEVER

    def again(self) -> None:
        """The next pass is due at once."""
        self.due = 0.0

    def failed(self, now: float) -> None:
        """A pass failed on this machine."""
        self._failures += 1
        self._next(now, doubled(PAUSE, self._failures, LONGEST_PAUSE))

    @property
    def failing(self) -> bool:
        """Whether the last pass failed."""
        return self._failures > 0

    def passed(self, report: PassReport, poll: float, now: float) -> None:
        """A pass has ended.

        Args:
            report: what it says of itself.
            poll: the setting, in seconds; 0 where it is off.
            now: the moment.
        """
        self._last = report
        self._failures, self._cut = 0, False
        self._events = {
            name: at for name, at in self._events.items() if at >= report.current_at or name in UNSEEN
        }
        self.quiet = not report.found
        self._tries = 0 if report.finished else self._tries + 1
        self._unfinished = self._unfinished + 1 if report.partly else 0
        self._early = self._early + 1 if report.early or (self._early and report.missing) else 0
        pause, again = self._pause(report, poll, now), self._until_the_account_is_whole(report)
        self._next(now, pause if again is None else again)

    def _pause(self, report: PassReport, poll: float, now: float) -> float:
        left = self._close_until - now
        if report.finished and self._early and left > 0:
            # A router tells who this is before it has been given all the rest.
            return min(self._about(EARLY_PAUSE * 2.0 ** (self._early - 1)), left)
        if report.finished:
            self._close_until = -NEVER  # everything answered: the close look is over
            return self._about(poll) if poll > 0 else NEVER
        if left > 0:
            return close_look_pause(self._unfinished, self._chance())
        return self._about(doubled(RETRY, self._tries - 1, poll or RETRY_WITHOUT_POLL))

    def _until_the_account_is_whole(self, report: PassReport) -> Optional[float]:
        """Seconds until a new account is tried again, None where it is not.

        Its line in /etc/passwd comes before its home. No pass of the close look comes in between: it would
        be one of the tries.
        """
        if not report.failed or not self._new_account:
            self._new_account = 0
            return None
        self._new_account -= 1
        return PAUSE * 2.0 ** (NEW_ACCOUNT_TRIES - 1 - self._new_account)

    def _about(self, seconds: float) -> float:
        return seconds * (1.0 - JITTER + 2.0 * JITTER * self._chance())

    def _next(self, now: float, seconds: float) -> None:
        """The next pass is due then, if no event has come meanwhile that wants one sooner."""
        if not self._events:
            self.due = now + seconds

    # --- what a pass may wait ---

    def source_wait(self, now: float) -> Optional[float]:
        """Seconds to wait for a source; None for those of the setting.

        The first pass is to end in good time for those who wait for it.
        """
        left = self._close_until - now
        if left <= 0:
            return None
        return min(left, FIRST_WAIT) if self._last is None else left

    def grace(self, now: float, *, rereading: bool) -> float:
        """Seconds for the router once a drive is read.

        Args:
            now: the moment.
            rereading: the pass reads the settings anew.
        """
        hurried = self._hurried()
        if hurried and self._may_hurry():
            return HURRY
        left = self._close_until - now
        seen = self._last is not None and self._last.drive
        if left > 0 and seen and not (hurried or rereading or self._new_account):
            return left  # that drive has been applied: the rest of the close look is for the router
        return GRACE
