"""Find and read, in unprivileged children, and merge what they say into one observation.

The virtual router and the drive are looked for side by side. Every drive has a child of its own, so that
a bad one cannot cost the router's answer. The parent waits under one deadline, looks twice a second
whether a lease or a drive has appeared, and checks what comes back again, field by field.
"""

from __future__ import annotations

import select
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

from csagent import find, jail, plausible, wire
from csagent.errors import JailError, ProbeError
from csagent.find import drives as drive_finder
from csagent.jail import Child
from csagent.model import SLOTS, Candidate, Found, Observation, Place, Reading
from csagent.read.merge import merge
from csagent.settings import Settings
from csagent.system import System

GRACE = 3.0  # seconds that the router gets once a drive has been read (DESIGN, "Order")
TICK = 0.5  # seconds between looks for a new lease or drive
DRIVE_PATIENCE = 6.0  # seconds; facts/dependencies.md, section 3
SCOUT_PATIENCE = 20.0
RESTART_AFTER = 1.0  # seconds a router child may go on after the leases changed under it
LAST_WORDS = 0.3  # seconds that a child has to say what it found before it is killed

ROUTER_JOB = "router reader"
SCOUT_JOB = "drive scout"
DRIVE_JOB = "drive reader"


@dataclass(frozen=True, **SLOTS)
class Options:
    """What the command line says about one pass. A place named here replaces discovery of all places."""

    router: Optional[Tuple[str, int]] = None  # host, port
    password_port: int = 8080
    drive: Optional[str] = None  # a path on this machine, not below the root
    source: Optional[str] = None  # router | drive: only this one
    force_password: bool = False

    @property
    def given(self) -> bool:
        """Whether places were named, so that none are looked for."""
        return self.router is not None or self.drive is not None


@dataclass(frozen=True, **SLOTS)
class Observed:
    """What find found and what read made of it."""

    found: Found
    observation: Observation


class Interrupted(Exception):
    """The daemon was told to stop or to reload while it waited."""


class Wake(Protocol):
    """Something that can end a wait: readable when it is time."""

    def fileno(self) -> int:
        """The descriptor to wait for."""
        ...


@dataclass
class _Job:
    """A running child and what it is for."""

    child: Child
    ends: float
    device: str = ""
    why: str = ""


@dataclass
class Observer:
    """One observation in the making."""

    system: System
    settings: Settings
    options: Options
    wait: float  # seconds
    grace: float = GRACE
    wake: Optional[Wake] = None

    found: Found = field(default_factory=Found)
    _router: Optional[_Job] = None
    _router_started: float = 0.0
    _router_readings: Tuple[Reading, ...] = ()
    _router_places: Tuple[Place, ...] = ()
    _router_done: bool = False
    _stale: bool = False
    _drives: List[_Job] = field(default_factory=list)
    _drive_readings: Dict[str, Reading] = field(default_factory=dict)
    _drive_places: Dict[str, Place] = field(default_factory=dict)
    _drive_read_at: Optional[float] = None
    _identity: Optional[jail.Identity] = None

    def __post_init__(self) -> None:
        clock = self.system.clock
        self._end = clock.monotonic() + self.wait
        self.sources = tuple(
            source for source in self.settings.sources if self.options.source in (None, source)
        )
        given = self.options.given
        self.wants_router = "router" in self.sources and (self.options.router is not None or not given)
        self.wants_drive = "drive" in self.sources and (self.options.drive is not None or not given)
        # A tree's leases and devices say nothing about the network and the drives of this machine.
        self.discovers = self.system.live and not given
        self._identity = jail.unprivileged()

    # --- the loop ---

    def run(self) -> Observed:
        """Wait for what there is, at most until the deadline.

        Raises:
            Interrupted: `wake` became readable.
        """
        clock = self.system.clock
        marks = self._marks()
        looked = clock.monotonic()
        try:
            if self.wants_router:
                self._start_router()
            if self.wants_drive:
                self._start_drives()
            while not self._is_over(clock.monotonic()):
                self._select()
                now = clock.monotonic()
                self._expire(now)
                if self.discovers and now - looked >= TICK:
                    looked = now
                    latest = self._marks()
                    if latest != marks:
                        self._look_again(marks, latest)
                        marks = latest
                if self._stale and now - self._router_started >= RESTART_AFTER:
                    self._start_router()
            self._last_words()
        finally:
            for job in self._jobs():
                job.child.kill()
        return Observed(self.found, self._merged())

    def _marks(self) -> Tuple[Any, Any]:
        if not self.discovers:
            return (), ()
        return find.network_marks(self.system), find.drive_marks(self.system, self.settings.drive_labels)

    def _look_again(self, before: Tuple[Any, Any], after: Tuple[Any, Any]) -> None:
        if self.wants_router and before[0] != after[0]:
            if self._router is None and not self._router_readings:
                self._start_router()
            else:
                self._stale = not self._router_readings
        if self.wants_drive and before[1] != after[1]:
            self._start_drives()

    def _jobs(self) -> List[_Job]:
        return ([self._router] if self._router is not None else []) + self._drives

    def _is_over(self, now: float) -> bool:
        if self._drives:
            return False
        if self._router_done and self._router_readings:
            return True
        if now >= self._end:
            return True
        if self._drive_read_at is not None:
            return not self.wants_router or now >= self._drive_read_at + self.grace
        waiting_for_router = self._router is not None or (self.wants_router and self.discovers)
        waiting_for_drive = self.wants_drive and self.discovers
        return not (waiting_for_router or waiting_for_drive)

    def _select(self) -> None:
        now = self.system.clock.monotonic()
        moments = [now + TICK, *(job.ends for job in self._jobs())]
        if self._router is not None or self.discovers:
            moments.append(self._end)
            if self._drive_read_at is not None:
                moments.append(self._drive_read_at + self.grace)
        children = [job.child for job in self._jobs()]
        waiting: List[Any] = [*children, *([self.wake] if self.wake is not None else [])]
        ready = select.select(waiting, [], [], max(0.0, min(moments) - now))[0]
        if self.wake is not None and self.wake in ready:
            raise Interrupted
        for job in self._jobs():
            if job.child in ready:
                self._collect(job)

    def _collect(self, job: _Job) -> None:
        try:
            done = job.child.collect()
            if job is self._router:
                self._hear_router(job, done)
            elif done:
                self._drives.remove(job)
                self._hear_drive(job)
        except JailError as error:
            self._failed(job, "malformed", str(error))

    def _expire(self, now: float) -> None:
        for job in self._jobs():
            if now >= job.ends:
                job.child.kill()
                self._failed(job, "timeout", f"{job.child.name}: no answer in time; stopped")

    def _failed(self, job: _Job, outcome: str, detail: str) -> None:
        job.child.kill()
        if job is self._router:
            self._router, self._router_done = None, True
            self._router_places += (Place("router", job.why, outcome, detail),)
        elif job in self._drives or job.device:
            if job in self._drives:
                self._drives.remove(job)
            place = f"drive {job.device}".strip()
            self._drive_places[job.device] = Place(place, job.why, outcome, detail)

    def _last_words(self) -> None:
        """What the router child has said so far counts, though it is stopped."""
        if self._router is not None:
            try:
                self._router.child.collect()
                self._hear_router(self._router, False)
            except JailError as error:
                self._failed(self._router, "malformed", str(error))

    # --- the router ---

    def _start_router(self) -> None:
        if self._router is not None:
            self._router.child.kill()
        system, options, labels = self.system, self.options, self.settings.drive_labels
        deadline = max(self._end - LAST_WORDS, system.clock.monotonic() + 1.0)

        def prepare() -> Any:
            from csagent.read import http

            trail = find.prepare(system)
            if options.router is not None or find.may_have_candidates(system):
                http.warm_up()
            return trail

        def work(trail: Any, say: jail.Say) -> Any:
            found = find.look(system, trail, labels, with_drives=False)
            if options.router is not None:
                found = replace(found, candidates=given_candidates(options))
            if not found.candidates:
                return {"found": wire.encode(found), "readings": [], "places": []}
            from csagent.read import router

            def report(answer: router.RouterAnswer) -> Any:
                return {
                    "found": wire.encode(found),
                    "readings": wire.encode(answer.readings),
                    "places": wire.encode(answer.places),
                }

            return report(
                router.read(
                    system,
                    found.candidates,
                    found.platform,
                    deadline=deadline,
                    progress=lambda answer: say({"so_far": report(answer)}),
                )
            )

        child = jail.start(system, ROUTER_JOB, prepare, work, jail.READER, self._identity)
        self._router = _Job(child, self._end + 1.0, why="find and read the virtual router")
        self._router_started = system.clock.monotonic()
        self._router_done = self._stale = False
        self._router_places = ()

    def _hear_router(self, job: _Job, done: bool) -> None:
        document: Any = None
        if done:
            document = job.child.result()
            self._router, self._router_done = None, True
        else:
            said = [
                one["so_far"] for one in job.child.documents() if isinstance(one, dict) and "so_far" in one
            ]
            document = said[-1] if said else None
        if document is None:
            return
        if not isinstance(document, dict) or set(document) != {"found", "readings", "places"}:
            raise JailError(f"{ROUTER_JOB}: answered with a wrong document")
        self.found = replace(wire.decode(Found, document["found"]), drives=self.found.drives)
        domain = next(
            (
                lease.domain_name
                for lease in self.found.leases
                if lease.interface == self.found.default_interface
            ),
            None,
        )
        self._router_places = decode_all(Place, document["places"])
        self._router_readings = tuple(
            replace(recheck(reading), domain=reading.domain or plausible.domain(domain))
            for reading in decode_all(Reading, document["readings"])
        )

    # --- the drives ---

    def _start_drives(self) -> None:
        now = self.system.clock.monotonic()
        for job in self._drives:
            job.child.kill()
        self._drives = []
        self._drive_places = {}
        if self.options.drive is not None:
            self._start_drive(self.options.drive, "given by --drive", given=True)
        elif self.discovers and drive_finder.worth_a_look(self.system, self.settings.drive_labels):
            system, labels = self.system, self.settings.drive_labels

            def prepare() -> Any:
                return prepare_scout(system)

            def work(volumes: Any, _say: jail.Say) -> Any:
                return wire.encode(drive_finder.drives(system, labels, volumes))

            child = jail.start(system, SCOUT_JOB, prepare, work, jail.READER, self._identity)
            self._drives = [_Job(child, now + SCOUT_PATIENCE, why="block devices with the label")]

    def _start_drive(self, device: str, why: str, *, given: bool) -> None:
        system, labels = self.system, self.settings.drive_labels

        def prepare() -> Any:
            from csagent.read import drive

            opened = drive.open_place(system, device, given=given, why=why)
            drive.warm_up(opened)
            return opened

        def work(opened: Any, _say: jail.Say) -> Any:
            from csagent.read import drive

            reading, place = drive.read(opened, labels=labels)
            return {"reading": wire.encode(reading), "place": wire.encode(place)}

        child = jail.start(system, DRIVE_JOB, prepare, work, jail.DRIVE, self._identity)
        self._drives.append(_Job(child, system.clock.monotonic() + DRIVE_PATIENCE, device, why))

    def _hear_drive(self, job: _Job) -> None:
        from csagent.model import Drive

        try:
            document = job.child.result()
            if not job.device:
                drives = decode_all(Drive, document)
                self.found = replace(self.found, drives=drives)
                for drive in drives[:8]:
                    self._start_drive(drive.device, drive.why, given=False)
                return
            if not isinstance(document, dict) or set(document) != {"reading", "place"}:
                raise JailError(f"{DRIVE_JOB}: answered with a wrong document")
            self._drive_places[job.device] = wire.decode(Place, document["place"])
            if document["reading"] is not None:
                reading = recheck(wire.decode(Reading, document["reading"]))
                self._drive_readings[job.device] = reading
                if reading.metadata or reading.ssh_keys or reading.password.state == "offered":
                    self._drive_read_at = self.system.clock.monotonic()
            else:
                self._drive_readings.pop(job.device, None)
        except JailError as error:
            self._failed(job, "malformed", str(error))

    # --- the sum ---

    def _merged(self) -> Observation:
        places = [*self._router_places, *self._drive_places.values()]
        if self.wants_router and not self._router_places:
            places.insert(0, Place("router", "leases and default routes", "absent", self._why_no_router()))
        if self.wants_drive and not self._drive_places:
            labels = ", ".join(self.settings.drive_labels)
            why = f"block devices with the label {labels}"
            detail = "not looked for in a tree" if not self.discovers else "no device carries it"
            places.append(Place("drive", why, "absent", detail))
        readings = [*self._router_readings, *self._drive_readings.values()]
        return merge(readings, places, self.found.platform, self.sources)

    def _why_no_router(self) -> str:
        if not self.discovers and self.options.router is None:
            return "not looked for in a tree (name one with --router)"
        if self._router is not None:
            return "still starting when the time was up"
        return "no candidate: no lease with an address behind it, and no default route"


def observe(
    system: System,
    settings: Settings,
    options: Options,
    *,
    wait: float,
    grace: float = GRACE,
    wake: Optional[Wake] = None,
) -> Observed:
    """Find and read once; see `Observer`."""
    return Observer(system, settings, options, wait, grace, wake).run()


def discover(system: System, settings: Settings) -> Found:
    """Only find, contacting nobody, in a child of its own.

    Raises:
        JailError: the child died.
    """
    labels = settings.drive_labels

    def prepare() -> Any:
        prepare_scout(system)
        return find.prepare(system)

    def work(trail: Any, _say: jail.Say) -> Any:
        return wire.encode(find.look(system, trail, labels))

    answer = jail.run(system, "finder", prepare, work, jail.READER, jail.unprivileged(), SCOUT_PATIENCE)
    return wire.decode(Found, answer)


def prepare_scout(system: System) -> Any:
    """What the scout needs root for: libraries that may be unreadable later, and labels without udev."""
    if drive_finder.udev_runs(system):
        try:
            import pyudev  # noqa: F401
        except ImportError:
            pass  # find.drives reads udev's database by itself then
        return None
    return drive_finder.read_volumes(system) if system.live else None


def given_candidates(options: Options) -> Tuple[Candidate, ...]:
    """The router named on the command line, as a candidate. Runs in the child: a name is looked up."""
    assert options.router is not None  # noqa: S101  for the type checker
    host, port = options.router
    address = plausible.address(host) or _look_up(host)
    if address is None:
        return ()
    return (
        Candidate(
            address,
            "given",
            "given by --router",
            default=True,
            port=port,
            password_port=options.password_port,
        ),
    )


def _look_up(host: str) -> Optional[str]:
    import socket

    try:
        answers = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(answers[0][4][0]) if answers else None


def decode_all(kind: Any, document: Any) -> Tuple[Any, ...]:
    """A JSON array of facts.

    Raises:
        JailError: it is not one.
    """
    if not isinstance(document, list) or len(document) > wire.ITEMS_LIMIT:
        raise JailError("the reading child answered with a wrong list")
    return tuple(wire.decode(kind, item) for item in document)


def recheck(reading: Reading) -> Reading:
    """The same reading, once more held against the rules, by a process that parsed nothing hostile.

    Raises:
        JailError: a child that keeps the rules would not have said so.
    """
    try:
        if (
            reading.instance_id is not None
            and plausible.instance_id(reading.instance_id) != reading.instance_id
        ):
            raise JailError("the reading child answered with a wrong instance id")
        if plausible.ssh_keys("\n".join(reading.ssh_keys)) != (reading.ssh_keys, ()):
            raise JailError("the reading child answered with wrong keys")
        for key, value in reading.metadata.items():
            if not plausible.metadata_key(key):
                raise JailError("the reading child answered with a wrong metadata key")
            plausible.metadata_value(value.encode("utf-8"))
        value_of_password = reading.password.value
        if (
            value_of_password is not None
            and plausible.password(value_of_password.reveal()) != value_of_password
        ):
            raise JailError("the reading child answered with a wrong password")
        if reading.channel not in ("router", "drive") or reading.password.state not in (
            "offered",
            "none",
            "unknown",
        ):
            raise JailError("the reading child answered with a wrong state")
        check_endpoints(reading)
        if reading.user_data is not None and len(reading.user_data) > plausible.USER_DATA_LIMIT * 4:
            raise JailError("the reading child answered with too much user-data")
    except ProbeError as error:
        raise JailError(f"the reading child broke a rule: {type(error).__name__}") from None
    return reading


def check_endpoints(reading: Reading) -> None:
    """Endpoints are where a password will be sent back to be compared: addresses and ports only."""
    endpoints: Sequence[Any] = reading.password.endpoints
    if len(endpoints) > 32:
        raise JailError("the reading child answered with too many endpoints")
    for endpoint in endpoints:
        sources = (endpoint.address, endpoint.source or endpoint.address)
        if not all(plausible.address(address) for address in sources) or not 0 < endpoint.port < 65536:
            raise JailError("the reading child answered with a wrong endpoint")
