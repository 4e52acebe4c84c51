"""Stage one for one candidate: is it the virtual router of this VM?"""

from __future__ import annotations

import threading
from typing import Optional, Tuple

from csagent import validation
from csagent.errors import Absent, Foreign, Malformed, ProbeError, ServerFault, TimedOut
from csagent.model import HTTP_PORT, Candidate, Place, Platform
from csagent.sources.router.connect import CONNECT_SECONDS
from csagent.sources.router.http import Http
from csagent.sources.router.metadata import LEGACY, LISTING_LIMIT, MODERN, THREADS, Result, own_keys
from csagent.sources.router.names import Name, pick
from csagent.sources.router.threads import start
from csagent.system.seams import System

INSTANCE_ID_LIMIT = 1024
LOADED_SECONDS = 0.5  # for the instance id; who takes longer has many VMs to serve
UNREACHED = ("timeout", "refused", "unreachable")


def identify(body: bytes, platform: Platform) -> str:
    """The instance id in a body that claims to be one, where it can be ours.

    Raises:
        Absent: it is empty: a router that does not know us yet.
        Malformed: it is no instance id.
        Foreign: DMI, where it is CloudStack's, names another VM (field/cloudstack#8, #edge-22 and #edge-23).
    """
    if validation.is_html(body):
        raise Malformed("HTML where the instance id should be")
    text = validation.metadata_value(body)
    if not text.strip():
        raise Absent("empty instance id")
    found = _instance_id(text)
    if found is None:
        # Without an excerpt: where --router names the wrong port, this may be a password server.
        raise Malformed("the answer is neither a UUID nor like i-2-3-VM")
    if validation.is_anothers(found, platform):
        raise Foreign(f"instance id {found} is another VM's: DMI says {platform.uuid}")
    return found


def _instance_id(text: str) -> Optional[str]:
    try:
        return validation.instance_id(text)
    except ProbeError:
        return None


class Probe:
    """One candidate and what is known about it. Attempts run in threads and report through `attempt`."""

    def __init__(
        self,
        system: System,
        rank: int,
        candidate: Candidate,
        deadline: float,
        name: Optional[Name] = None,
        taken: Tuple[str, ...] = (),
    ) -> None:
        self.system = system
        self.rank = rank
        self.candidate = candidate
        self.deadline = deadline
        self.name = name
        self.address: Optional[str] = None if name is not None else candidate.address
        self.http: Optional[Http] = None
        self.pending = False
        self.done = threading.Event()  # at least one attempt has come to its end
        self.began = 0.0
        self.attempts = 0
        self.retry_at: Optional[float] = None
        self.folded = False
        self.instance_id: Optional[str] = None
        self.legacy = False
        self.own = ""  # our address, where only its directory can be read: all below /latest fails
        self.loaded = False  # it is slow: ask with few connections, and not twice
        self.unreached = False  # the last attempt found nobody there, as while a router is starting
        self.problem: ProbeError = TimedOut("no answer so far")
        self.seconds: Optional[float] = None
        self._taken = taken
        self._listing: Optional[Result] = None
        self._listed = threading.Event()
        self._beside = True

    @property
    def place(self) -> str:
        """What reports call it."""
        port = "" if self.candidate.port == HTTP_PORT else f":{self.candidate.port}"
        return f"router {self.address or self.candidate.address}{port}"

    @property
    def answers(self) -> bool:
        """Whether anybody has ever been there."""
        return self.http is not None and self.http.connected

    def attempt(self, platform: Platform) -> None:
        """Ask once; afterwards `instance_id` is set, or `problem` says why not, or `folded` is True."""
        try:
            if self.address is None and self.name is not None:
                address, self.folded = pick(self.name, self._taken)
                if self.folded:
                    return
                self.address = address
            if self.http is None:
                self.http = Http(
                    self.system,
                    self.candidate.metadata_endpoint(self.address),
                    deadline=self.deadline,
                    connections=THREADS + 1,
                )
            http = self.http
            # Later on, a connection of its own for the listing would be one more in the router's queue.
            self._beside = self.attempts <= 1
            if not self._beside:
                self._listing = None
            elif not start(lambda: self._fetch_listing(http)):
                self._fetch_listing(http)
            asked = self.system.clock.monotonic()
            self.unreached = False
            try:
                self.instance_id = self._fetch_identity(http, platform)
            finally:
                self.loaded = self.system.clock.monotonic() - asked > self.system.clock.stretched(
                    LOADED_SECONDS
                )
        except ProbeError as error:
            cut_off = self.system.clock.monotonic() >= self.deadline - 0.1
            if not (cut_off and self.attempts > 1 and error.outcome == "timeout"):
                self.problem = error  # else the one before it says more than that our own time was over
            spent = self.system.clock.monotonic() - self.began
            self.unreached = (
                error.outcome in UNREACHED and spent < self.system.clock.stretched(CONNECT_SECONDS) + 0.5
            )
        finally:
            self.seconds = round(self.system.clock.monotonic() - self.began, 3)
            self.done.set()

    def _fetch_identity(self, http: Http, platform: Platform) -> str:
        try:
            self.own = ""
            return self._fetch_latest(http, platform)
        except ServerFault:
            # The rules for /latest are one file for all VMs, and each VM's files are served beside it, too
            # (field/cloudstack#2.2).
            own = http.source
            if own is None:
                raise
            try:
                found = identify(http.get(f"{own_keys(own)}instance-id", INSTANCE_ID_LIMIT).body, platform)
                self.own, self.legacy = own, False
                return found
            except Foreign:
                raise
            except ProbeError:
                pass
            raise

    def _fetch_latest(self, http: Http, platform: Platform) -> str:
        try:
            body = http.get(f"{MODERN}instance-id", INSTANCE_ID_LIMIT).body
            self.legacy = False
        except Absent:
            body = http.get(f"{LEGACY}instance-id", INSTANCE_ID_LIMIT).body
            self.legacy = True
        return identify(body, platform)

    def _fetch_listing(self, http: Http) -> None:
        try:
            self._listing = http.get(f"{own_keys(self.own)}meta-data" if self.own else MODERN, LISTING_LIMIT)
        except ProbeError as error:
            self._listing = error
        self._listed.set()

    def listing(self, patience: float) -> Result:
        """The listing that the first attempt asked for beside the instance id; else it is asked for now.

        A router that was just starting may have refused that one and answered the other. In the queue of a
        loaded router its connection may still be waiting, while that of the instance id is open already.
        """
        if self._beside:
            self._listed.wait(max(0.0, patience))
        missing = (self._listing is None and (self.loaded or not self._beside)) or bool(self.own)
        failed = isinstance(self._listing, ProbeError) and not self.legacy
        if self.http is not None and (missing or failed):
            self._fetch_listing(self.http)
        return self._listing or TimedOut("no answer in time")

    def report(self, detail: str, outcome: str = "ok") -> Place:
        """The candidate's outcome as a `Place`."""
        return Place(self.place, self.candidate.why, outcome, detail, self.seconds)

    def close(self) -> None:
        """Let go of its connections."""
        if self.http is not None:
            self.http.close()
