"""What the unprivileged children do: find and read the router, list the drives, read one drive.

Each has a `prepare`, which runs with our rights, and a `work`, which runs without any (see `sandbox.jail`).
Everything heavy is imported in here, and so in the children only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

from csagent.errors import JailError
from csagent.model import Candidate, Found
from csagent.sandbox import jail
from csagent.sandbox.child import DRIVE_JOB, ROUTER_JOB, SCOUT_JOB, Child

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.settings import Settings
    from csagent.sources.request import Options, PassRequest
    from csagent.system.seams import System

    Prepared = Tuple[Any, Optional[Filters]]

FINDER_PATIENCE = 20.0  # seconds


def start_router(request: "PassRequest", seconds: float, until: Optional[float] = None) -> Child:
    """Find the candidates, ask them until one is believed, and read it.

    It says {"found": what was found} before anything is asked, and {"believes": True} when it has found the
    router; the answer is {"readings", "places"}, and while it goes on, {"so_far": the same} may be said.

    Args:
        request: a router named in its options is the only candidate; where it says `once`, each candidate is
            asked once only.
        seconds: that it asks, once it has found whom; more where this machine is slow.
        until: on the monotonic clock, the end in any case.

    Raises:
        JailError: there is no process for it.
    """
    from csagent.sandbox.broker import Connected

    connected = Connected()
    try:
        child = jail.start(
            jail.Job(
                ROUTER_JOB,
                request.system,
                lambda: _prepare_router(request),
                lambda prepared, say: _read_router(request, seconds, until, prepared, say, connected.writing),
                jail.READER,
                jail.unprivileged(),
                (connected.writing,),
            )
        )
    except JailError:
        connected.close()
        raise
    finally:
        connected.forked()
    child.connected = connected
    return child


def _prepare_router(request: "PassRequest") -> "Prepared":
    from csagent import validation

    if request.options.router is not None:
        from csagent.discovery.dmi import read_dmi

        evidence: Any = read_dmi(request.system)
        hope = True
        if validation.address(request.options.router[0]) is None:
            import encodings.idna  # noqa: F401  # by getaddrinfo
    else:
        from csagent.discovery import finder

        evidence = finder.prepare(request.system)
        finder.warm_up()
        hope = finder.may_have_candidates(request.system)
    from csagent.sandbox import codec, seccomp  # noqa: F401
    from csagent.sources.router import egress  # noqa: F401

    if hope:
        from csagent.sources.router import client, http  # noqa: F401

        http.warm_up()
    return evidence, seccomp.load_library()


def _read_router(
    request: "PassRequest",
    seconds: float,
    until: Optional[float],
    prepared: "Prepared",
    say: jail.Send,
    connected: int,
) -> Any:
    from csagent.sandbox import codec
    from csagent.sources.router.egress import Fence

    system, options = request.system, request.options
    evidence, filters = prepared
    fence = Fence(system, filters, options.ports, given=options.router is not None, connected=connected)
    if options.router is not None:
        found = Found(platform=evidence, candidates=given_candidates(options))
    else:
        from csagent.discovery import finder

        found = finder.look(system, evidence, request.settings.drive_labels, with_drives=False)
    if options.password_port is not None:
        port = options.password_port
        found = found._replace(candidates=tuple(one._replace(password_port=port) for one in found.candidates))
    say({"found": codec.encode(_note_missing_filter(found, filters))})
    if not found.candidates:
        return {"readings": [], "places": []}
    from csagent.sources.router import client

    def report(answer: "client.RouterAnswer") -> Any:
        return {"readings": codec.encode(answer.readings), "places": codec.encode(answer.places)}

    fenced, resolve = fence.close(system, found.candidates)
    deadline = system.clock.monotonic() + system.clock.stretched(seconds)
    deadline = deadline if until is None else min(deadline, until)
    search = client.Question(fenced, found.candidates, found.platform, deadline, resolve)
    if request.once:
        return report(client.look(search))
    return report(
        client.read(
            search,
            progress=lambda answer: say({"so_far": report(answer)}),
            believed=lambda: say({"believes": True}),
        )
    )


def _note_missing_filter(found: Found, filters: Optional["Filters"]) -> Found:
    """Say so where the children have not lost what they could have lost."""
    notes = [jail.note_on_account()]
    if filters is None:
        notes.append("no system call filter: libseccomp.so.2 or the kernel's support for it is missing")
    return found._replace(notes=(*found.notes, *(note for note in notes if note)))


def given_candidates(options: "Options") -> Tuple[Candidate, ...]:
    """The router named on the command line, as a candidate.

    A name is looked up by libc, in the child, while it may still open sockets.
    """
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


def start_scout(request: "PassRequest") -> Child:
    """List the block devices that carry a label; the answer is a list of `Drive`.

    Raises:
        JailError: there is no process for it.
    """
    from csagent.sandbox import seccomp

    system = request.system

    def prepare() -> "Prepared":
        return prepare_scout(system, request.settings.drive_devices), seccomp.load_library()

    def work(prepared: "Prepared", _say: jail.Send) -> Any:
        from csagent.discovery import drives
        from csagent.sandbox import codec

        volumes, filters = prepared
        seccomp.restrict_if_possible(filters)
        settings = request.settings
        return codec.encode(drives.drives(system, settings.drive_labels, volumes, settings.drive_devices))

    return jail.start(jail.Job(SCOUT_JOB, system, prepare, work, jail.READER, jail.unprivileged()))


def prepare_scout(system: "System", named: Sequence[str]) -> Any:
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
    return drives.read_volumes(system, named) if system.live else None


def start_drive(request: "PassRequest", path: str, why: str, *, given: bool) -> Child:
    """Read one drive, image file or directory; the answer is {"reading", "place"}.

    Raises:
        JailError: there is no process for it.
    """
    from csagent.sandbox import seccomp

    system = request.system

    def prepare() -> "Prepared":
        from csagent.sandbox import codec  # noqa: F401
        from csagent.sources.drive import device

        named = request.settings.drive_devices
        opened = device.open_place(system, path, given=given, why=why, named=named)
        device.warm_up(opened)
        return opened, seccomp.load_library()

    def work(prepared: "Prepared", _say: jail.Send) -> Any:
        from csagent.sandbox import codec
        from csagent.sources.drive import device

        opened, filters = prepared
        seccomp.restrict_if_possible(filters)
        reading, place = device.read(opened, labels=request.settings.drive_labels)
        return {"reading": codec.encode(reading), "place": codec.encode(place)}

    return jail.start(jail.Job(DRIVE_JOB, system, prepare, work, jail.DRIVE, jail.unprivileged()))


def discover(system: "System", settings: "Settings") -> Found:
    """Only find, contacting nobody, in a child of its own.

    Raises:
        JailError: the child died.
    """
    from csagent.discovery import finder
    from csagent.sandbox import codec, seccomp

    def prepare() -> "Prepared":
        prepare_scout(system, settings.drive_devices)
        finder.warm_up()
        evidence, seen = finder.prepare(system, settings.drive_devices), system
        if system.recorded:
            from csagent.discovery.recorded import for_nobody

            seen = for_nobody(system)
            evidence.leases.runner = seen.runner
        return (seen, evidence), seccomp.load_library()

    def work(prepared: "Prepared", _say: jail.Send) -> Any:
        (seen, evidence), filters = prepared
        if filters is not None and not filters.load(seccomp.refused_while_discovering):
            filters = None
        found = finder.look(seen, evidence, settings.drive_labels, named=settings.drive_devices)
        return codec.encode(_note_missing_filter(found, filters))

    job = jail.Job("finder", system, prepare, work, jail.READER, jail.unprivileged())
    return codec.decode(Found, jail.run(job, FINDER_PATIENCE))
