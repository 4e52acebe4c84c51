"""What the unprivileged children do: find and read the router, list the drives, read one drive.

Each has a `prepare`, which runs with our rights, and a `work`, which runs without any (see `sandbox.jail`).
Everything heavy is imported in here, and so in the children only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence, Tuple

from csagent.model import HTTP_PORT, PASSWORD_PORT, Candidate, Found
from csagent.sandbox import jail
from csagent.sandbox.child import DRIVE_JOB, ROUTER_JOB, SCOUT_JOB, Child

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.seams import System

FINDER_PATIENCE = 20.0  # seconds


class Options(NamedTuple):
    """What the command line says about one pass. A place named here replaces discovery of all places."""

    router: Optional[Tuple[str, int]] = None  # host, port
    password_port: Optional[int] = None  # None: 8080
    drive: Optional[str] = None  # a path on this machine, not below the root
    source: Optional[str] = None  # router | drive: only this one
    force_password: bool = False

    @property
    def given(self) -> bool:
        """Whether places were named, so that none are looked for."""
        return self.router is not None or self.drive is not None


def start_router(
    system: "System", options: Options, labels: Sequence[str], deadline: float, *, once: bool
) -> Child:
    """Find the candidates, ask them until one is believed, and read it.

    It says {"found": what was found} before anything is asked; the answer is {"readings", "places"}, and
    while it goes on, {"so_far": the same} may be said.

    Args:
        system: the seams.
        options: a router named there is the only candidate.
        labels: of drives, for `Found`.
        deadline: on the monotonic clock.
        once: ask each candidate once only.
    """
    return jail.start(
        system,
        ROUTER_JOB,
        lambda: _prepare_router(system, options),
        lambda trail, say: _read_router(system, options, labels, deadline, once, trail, say),
        jail.READER,
        jail.unprivileged(),
    )


def _prepare_router(system: "System", options: Options) -> Tuple[Any, Optional["Filters"]]:
    if options.router is not None:
        from csagent.discovery.dmi import read_dmi

        trail: Any = read_dmi(system)
        hope = True
    else:
        from csagent.discovery import finder

        trail = finder.prepare(system)
        finder.warm_up()
        hope = finder.may_have_candidates(system)
    from csagent import validation  # noqa: F401
    from csagent.sandbox import (  # noqa: F401
        broker,
        codec,
        seccomp,
    )

    if hope:
        from csagent.sources.router import client, http  # noqa: F401

        http.warm_up()
    return trail, seccomp.load()


def _read_router(
    system: "System",
    options: Options,
    labels: Sequence[str],
    deadline: float,
    once: bool,
    prepared: Tuple[Any, Optional["Filters"]],
    say: jail.Say,
) -> Any:
    from csagent.sandbox import broker, codec

    trail, filters = prepared
    ports = (options.router[1] if options.router else HTTP_PORT, options.password_port or PASSWORD_PORT)
    if options.router is not None:
        found = Found(platform=trail, candidates=given_candidates(options))
        fence = broker.fence(system, filters, ports, given=True)
    else:
        from csagent.discovery import finder

        fence = broker.fence(system, filters, ports)
        found = finder.look(system, trail, labels, with_drives=False)
    if options.password_port is not None:
        port = options.password_port
        found = found._replace(candidates=tuple(one._replace(password_port=port) for one in found.candidates))
    say({"found": codec.encode(_noting(found, filters))})
    if not found.candidates:
        return {"readings": [], "places": []}
    from csagent.sources.router import client

    def report(answer: "client.RouterAnswer") -> Any:
        return {"readings": codec.encode(answer.readings), "places": codec.encode(answer.places)}

    system, resolve = fence.close(system, found.candidates)
    if once:
        return report(
            client.look(system, found.candidates, found.platform, deadline=deadline, resolve=resolve)
        )
    return report(
        client.read(
            system,
            found.candidates,
            found.platform,
            deadline=deadline,
            progress=lambda answer: say({"so_far": report(answer)}),
            resolve=resolve,
        )
    )


def _noting(found: Found, filters: Optional["Filters"]) -> Found:
    """Say so where the children have not lost what they could have lost."""
    if filters is not None:
        return found
    note = "no system call filter: libseccomp.so.2 or the kernel's support for it is missing"
    return found._replace(notes=(*found.notes, note))


def given_candidates(options: Options) -> Tuple[Candidate, ...]:
    """The router named on the command line, as a candidate. Runs in the child: a name is looked up."""
    from csagent import validation

    if options.router is None:
        return ()
    host, port = options.router
    address = validation.address(host) or _look_up(host)
    if address is None:
        return ()
    why = "given by --router"
    return (Candidate(address, "given", why, default=True, port=port, named=True),)


def _look_up(host: str) -> Optional[str]:
    import socket

    try:
        answers = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(answers[0][4][0]) if answers else None


def start_scout(system: "System", labels: Sequence[str]) -> Child:
    """List the block devices that carry a label; the answer is a list of `Drive`."""

    from csagent.sandbox import seccomp

    def work(prepared: Tuple[Any, Optional["Filters"]], _say: jail.Say) -> Any:
        from csagent.discovery import drives
        from csagent.sandbox import codec

        volumes, filters = prepared
        seccomp.close(filters)
        return codec.encode(drives.drives(system, labels, volumes))

    def prepare() -> Tuple[Any, Optional["Filters"]]:
        return prepare_scout(system), seccomp.load()

    return jail.start(system, SCOUT_JOB, prepare, work, jail.READER, jail.unprivileged())


def prepare_scout(system: "System") -> Any:
    """What the scout needs root for: libraries that may be unreadable later, and labels without udev."""
    from csagent.discovery import drives
    from csagent.sandbox import codec  # noqa: F401

    if drives.udev_runs(system):
        try:
            import pyudev

            pyudev.Context()
        except (ImportError, OSError):
            pass  # udev's database is read without it then
        return None
    return drives.read_volumes(system) if system.live else None


def start_drive(system: "System", path: str, labels: Sequence[str], why: str, *, given: bool) -> Child:
    """Read one drive, image file or directory; the answer is {"reading", "place"}."""

    from csagent.sandbox import seccomp

    def prepare() -> Tuple[Any, Optional["Filters"]]:
        from csagent.sandbox import codec  # noqa: F401
        from csagent.sources.drive import device

        opened = device.open_place(system, path, given=given, why=why)
        device.warm_up(opened)
        return opened, seccomp.load()

    def work(prepared: Tuple[Any, Optional["Filters"]], say: jail.Say) -> Any:
        from csagent.sandbox import codec
        from csagent.sources.drive import device

        opened, filters = prepared
        seccomp.close(filters)
        say({"ready": True})  # the image's own time begins
        reading, place = device.read(opened, labels=labels)
        return {"reading": codec.encode(reading), "place": codec.encode(place)}

    return jail.start(system, DRIVE_JOB, prepare, work, jail.DRIVE, jail.unprivileged())


def discover(system: "System", labels: Sequence[str]) -> Found:
    """Only find, contacting nobody, in a child of its own.

    Raises:
        JailError: the child died.
    """
    from csagent.discovery import finder
    from csagent.sandbox import codec, seccomp

    def prepare() -> Tuple[Any, Optional["Filters"]]:
        prepare_scout(system)
        finder.warm_up()
        trail, seen = finder.prepare(system), system
        if system.recorded:
            from csagent.discovery.recorded import for_nobody

            seen = for_nobody(system)
            trail.evidence.runner = seen.runner
        return (seen, trail), seccomp.load()

    def work(prepared: Tuple[Any, Optional["Filters"]], _say: jail.Say) -> Any:
        (seen, trail), filters = prepared
        if filters is not None and not filters.load(seccomp.finding):
            filters = None
        return codec.encode(_noting(finder.look(seen, trail, labels), filters))

    answer = jail.run(system, "finder", prepare, work, jail.READER, jail.unprivileged(), FINDER_PATIENCE)
    return codec.decode(Found, answer)
