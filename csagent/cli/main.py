"""Commands to functions, no logic. What a command needs is imported when it is run: start-up is budgeted."""

from __future__ import annotations

import gc
import io
import os
import sys

from csagent.errors import EXIT_FAILED, EXIT_NO_SOURCE, EXIT_OK, CsagentError, SourceNotFound, UsageError

TYPE_CHECKING = False  # status and query do without typing, as without most of csagent
if TYPE_CHECKING:
    import argparse
    from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

    from csagent.console import Console
    from csagent.model import Observed
    from csagent.settings import Settings
    from csagent.sources.request import Options
    from csagent.system.seams import System

COMPLAINT_LIMIT = 4096  # characters: it may be made of several texts that came from somebody else
START_NOTHING = ("status", "query")  # no program, and are at their end before signal is imported
GARBAGE = 50_000  # objects that wait to be looked through; Python says 700


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; every failure is one line on standard error and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        from csagent.cli.parser import build_parser

        parsed = build_parser(words).parse_args(words)
        if parsed.run not in START_NOTHING:
            import signal

            # Started by what ignores it (bash's `trap '' CHLD`), nobody is told how a program ended, wait(2):
            # subprocess calls that 0.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return int((_COMMANDS.get(parsed.run) or parsed.run)(parsed))

    return guarded(run)


def guarded(run: Callable[[], int]) -> int:
    """Run a program's work; every failure is one line on standard error and an exit code."""
    try:
        return run()
    except SystemExit as error:  # argparse: --help, --version, usage
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    except CsagentError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; run it again to finish")
        return 130
    except BrokenPipeError:
        return EXIT_FAILED
    except (OSError, MemoryError, RecursionError) as error:
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        _complain(f"{getattr(error, 'strerror', None) or type(error).__name__}{where}")
        return EXIT_FAILED
    except Exception as error:
        # Not a traceback, and not the text of the error: it may hold what was being worked on.
        _complain(f"failed ({type(error).__name__} in {_whence(error)}); this is a bug, please report it")
        return EXIT_FAILED


def _whence(error: BaseException) -> str:
    """The function and line of ours in which an error came up."""
    trace, found = error.__traceback__, "csagent"
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("csagent"):
            found = f"{name}.{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _complain(text: str) -> None:
    from csagent.console import one_line

    if sys.stderr is not None:
        print(f"csagent: {' '.join(one_line(text, COMPLAINT_LIMIT).split())}", file=sys.stderr)


def entry() -> None:
    """The console script."""
    end_with(main)


def end_with(run: Callable[[], int]) -> None:
    """Run, flush, and leave without tearing the interpreter down, which takes 8 ms."""
    for standard in (0, 1, 2):  # started with a closed one: what we open must not take its place
        try:
            os.fstat(standard)
        except OSError:
            from csagent.system.process import open_nothing

            open_nothing()
    # Python has none for a descriptor that was closed; and a locale's encoding may lack what CloudStack says.
    sys.stdout = sys.stdout or io.TextIOWrapper(io.BytesIO(), "utf-8")
    sys.stderr = sys.stderr or io.TextIOWrapper(io.BytesIO(), "utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    # A twelfth of a command's start is the collector's looking through what imports leave. The daemon makes
    # little garbage: after 25 passes its process was as large as after 5.
    gc.set_threshold(GARBAGE)
    code = run()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and stream is sys.stdout:
                _complain(f"standard output: {error.strerror}")
            code = code or EXIT_FAILED
    os._exit(code)


# --- the commands -----------------------------------------------------------------------------


def _load(parsed: argparse.Namespace) -> Tuple["System", "Settings"]:
    from csagent import settings
    from csagent.system.seams import System

    system = System.at(parsed.root)
    return system, settings.load(system, parsed.config)


def _options(parsed: argparse.Namespace, sources: "Sequence[str]") -> "Options":
    from csagent.sources.request import Options

    if parsed.source == "drive" and parsed.router is not None:
        raise UsageError("--router and --source drive contradict each other")
    if parsed.source == "router" and parsed.drive is not None:
        raise UsageError("--drive and --source router contradict each other")
    if parsed.drive == "":
        raise UsageError("--drive: an empty path")
    for source, given in (("router", parsed.router), ("drive", parsed.drive)):
        if given is not None and source not in sources:
            raise UsageError(f"--{source} is given, but the setting sources leaves {source} out")
    if parsed.source is not None and parsed.source not in sources:
        raise UsageError(f"--source {parsed.source}: the setting sources leaves it out")
    return Options(
        router=parsed.router,
        password_port=parsed.password_port,
        drive=None if parsed.drive is None else os.path.abspath(parsed.drive),
        source=parsed.source,
        force_password=getattr(parsed, "force_password", False),
    )


def _console() -> "Console":
    from csagent.console import Console

    return Console.of()


def _print_json(document: Any) -> None:
    import json

    print(json.dumps(document, indent=1))


def _wait(parsed: argparse.Namespace, settings: "Settings") -> float:
    return float(settings.wait if parsed.wait is None else parsed.wait)


def _discover(parsed: argparse.Namespace) -> int:
    from csagent.cli import discover
    from csagent.sources import jobs

    system, settings = _load(parsed)
    found = jobs.discover(system, settings)
    if parsed.json:
        _print_json(discover.as_json(found))
    elif not parsed.quiet:
        console = _console()
        sys.stdout.write(discover.as_text(found, console.width, console.colour))
    return EXIT_OK


def _observe(parsed: argparse.Namespace) -> Tuple["System", "Settings", "Observed"]:
    from csagent.sources.observe import observe
    from csagent.sources.request import PassRequest
    from csagent.system.process import keep_memory_private

    keep_memory_private()
    system, settings = _load(parsed)
    options = _options(parsed, settings.sources)
    observed = observe(PassRequest(system, settings, options, _wait(parsed, settings)))
    if parsed.verbose:
        from csagent.log import Log

        log = Log(_verbosity(parsed))
        for place in observed.observation.places:
            took = f", {place.seconds:.3f} s" if place.seconds is not None else ""
            log.debug(f"{place.place} ({place.why}): {place.outcome}, {place.detail}{took}")
    return system, settings, observed


def _fetch(parsed: argparse.Namespace) -> int:
    from csagent.cli import fetch

    if parsed.show_secrets and os.geteuid() != 0:
        raise UsageError("--show-secrets is for root only")
    _system, _settings, observed = _observe(parsed)
    observation = observed.observation
    if parsed.save is not None and observation.source_found:
        fetch.save(observation, parsed.save, show_secrets=parsed.show_secrets)
    if parsed.json:
        _print_json(fetch.as_json(observation, show_secrets=parsed.show_secrets))
    elif (observation.source_found or parsed.verbose) and not parsed.quiet:
        sys.stdout.write(fetch.as_text(observation, _console(), show_secrets=parsed.show_secrets))
    if not observation.source_found:
        raise SourceNotFound(no_source(observed))
    return EXIT_OK


def _plan(parsed: argparse.Namespace) -> int:
    from csagent import agent
    from csagent.cli import plan

    system, settings, observed = _observe(parsed)
    if not observed.observation.source_found:
        if parsed.json:
            _print_json({"schema": 1, "changes": False, "note": None, "actions": []})
        raise SourceNotFound(no_source(observed))
    made, note = agent.make_plan(system, settings, observed, force_password=parsed.force_password)
    if parsed.json:
        _print_json(plan.as_json(system, made, note))
    elif not parsed.quiet:
        sys.stdout.write(plan.as_text(system, made, note, _console()))
    return EXIT_OK


def _apply(parsed: argparse.Namespace) -> int:
    from csagent import agent
    from csagent.cli import status
    from csagent.log import Log
    from csagent.sources.request import PassRequest
    from csagent.system.process import keep_memory_private

    keep_memory_private()
    system, settings = _load(parsed)
    log = Log(_verbosity(parsed))
    options = _options(parsed, settings.sources)
    report = agent.run_pass(PassRequest(system, settings, options, _wait(parsed, settings), log=log.debug))
    if report.note:
        log.warning(report.note)
    if parsed.json:
        _print_json(report.status)
    elif not parsed.quiet and report.exit_code != EXIT_NO_SOURCE:
        sys.stdout.write(status.as_text(report.status, _console()))
    if report.exit_code == EXIT_NO_SOURCE:
        raise SourceNotFound(no_source(report.observed))
    for outcome in report.outcomes:
        if outcome.state == "failed" or outcome.wrong:
            log.error(f"{outcome.datum}: {outcome.reason}")
    return report.exit_code


def _daemon(parsed: argparse.Namespace) -> int:
    from csagent.daemon.loop import Daemon
    from csagent.log import Log
    from csagent.system.process import keep_memory_private

    keep_memory_private()
    if os.path.realpath(parsed.root) == "/" and os.geteuid() != 0:
        raise CsagentError("the daemon needs root (or a tree of yours to work on: --root DIR)")

    def prepare(plain: Optional[Mapping[str, Any]]) -> Tuple["System", "Settings", "Options"]:
        from csagent.settings import Settings
        from csagent.system.seams import System

        if plain is None:
            system, settings = _load(parsed)
        else:
            system, settings = System.at(parsed.root), Settings.from_plain(plain)
        return system, settings, _options(parsed, settings.sources)

    return Daemon(prepare, Log(_verbosity(parsed)), parsed.wait).run()


def _doctor(parsed: argparse.Namespace) -> int:
    from csagent.cli import doctor
    from csagent.doctor import engine
    from csagent.doctor.checks import last_pass
    from csagent.system.process import keep_memory_private
    from csagent.system.seams import System

    keep_memory_private()
    if parsed.bundle is not None:
        from csagent.doctor.bundle.bundle import check

        check(parsed.bundle)
    system = System.at(parsed.root)
    settings, problem = last_pass.load_settings(system, parsed.config)
    options = _options(parsed, settings.sources)
    examined = engine.examine(system, settings, problem, options, wait=_wait(parsed, settings))
    if parsed.json:
        _print_json(doctor.as_json(examined))
    else:
        sys.stdout.write(doctor.as_text(examined, _console(), quiet=parsed.quiet))
    if parsed.bundle is not None:
        from csagent.doctor.bundle.bundle import write

        written = write(examined, parsed.bundle, doctor.documents)
        print(f"csagent: {written.line()}", file=sys.stderr)
    return examined.exit_code


def _seal(parsed: argparse.Namespace) -> int:
    from csagent.cli import seal_command

    system, settings = _load(parsed)
    return seal_command.run(parsed, system, settings)


def _network_plan(parsed: argparse.Namespace) -> int:
    from csagent.cli import network_command

    system, settings = _load(parsed)
    return network_command.plan(parsed, system, settings)


def _network_apply(parsed: argparse.Namespace) -> int:
    from csagent.cli import network_command

    system, settings = _load(parsed)
    return network_command.apply(parsed, system, settings)


def _user_data(parsed: argparse.Namespace) -> int:
    from csagent.cli import user_data_command
    from csagent.log import Log

    system, settings = _load(parsed)
    return user_data_command.run(parsed, system, settings, Log(_verbosity(parsed)))


def _status(parsed: argparse.Namespace) -> int:
    import time

    from csagent.cli import status
    from csagent.state.status_files import (
        STATUS,
        user_data,
        wait_for,
        wait_for_new_account,
        wait_for_user_data,
    )

    if (parsed.user_data or parsed.first_pass) and not parsed.wait:
        raise UsageError(f"--{'user-data' if parsed.user_data else 'first-pass'} goes with --wait")
    if parsed.console and parsed.json:
        raise UsageError("--console and --json contradict each other")
    end = time.monotonic() + parsed.wait
    document = wait_for(parsed.root, STATUS, parsed.wait)
    # Below a root there are no units that would run it: it is waited for where that is asked for.
    early = os.path.realpath(parsed.root) == "/" and not parsed.first_pass
    if parsed.wait and (parsed.user_data or early):
        left = max(0.0, end - time.monotonic())
        ran = wait_for_user_data(parsed.root, left, final=parsed.user_data)
        if ran is not None and early:
            document = wait_for_new_account(parsed.root, max(0.0, end - time.monotonic())) or document
        document["user_data"] = ran
    else:
        document["user_data"] = user_data(parsed.root)
    if parsed.json:
        _print_json(document)
    elif parsed.console:
        from csagent.cli import console_lines

        sys.stdout.write(console_lines.of_machine(parsed.root, document))
    elif not parsed.quiet:
        sys.stdout.write(status.as_text(document, _console()))
    return EXIT_OK


def _query(parsed: argparse.Namespace) -> int:
    from csagent.cli import status
    from csagent.state.status_files import INSTANCE, wait_for

    instance = wait_for(parsed.root, INSTANCE, 0.0)
    value = status.query(parsed.root, parsed.key, instance)
    if sys.stdout.isatty():  # a script is given every byte, a terminal nothing that steers it
        from csagent.console import safe

        value = safe(value.decode("utf-8", "replace")).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.flush()
    return EXIT_OK


def _install_units(parsed: argparse.Namespace) -> int:
    from csagent.install import units

    return units.run(parsed)


def _lab_is_missing(parsed: argparse.Namespace) -> int:
    raise UsageError(
        "csagent lab is in a package of its own, csagent-lab, which lies beside csagent's "
        "(apt install ./csagent-lab_*.deb, dnf install ./csagent-lab-*.rpm); what pip installs has it, "
        "and a checkout: ./dev run lab"
    )


def _verbosity(parsed: argparse.Namespace) -> int:
    return 0 if parsed.quiet else 1 + int(parsed.verbose or 0)


_COMMANDS: Dict[Any, Callable[[argparse.Namespace], int]] = {
    "discover": _discover,
    "fetch": _fetch,
    "plan": _plan,
    "apply": _apply,
    "daemon": _daemon,
    "status": _status,
    "query": _query,
    "doctor": _doctor,
    "network plan": _network_plan,
    "network apply": _network_apply,
    "seal": _seal,
    "user-data": _user_data,
    "install-units": _install_units,
    "lab": _lab_is_missing,
}


def no_source(observed: "Observed") -> str:
    """One line that says what was tried and what came of it."""
    tried: List[str] = []
    for place in observed.observation.places:
        tried.append(f"{place.place}: {place.outcome}{f' ({place.detail})' if place.detail else ''}")
    summary = "; ".join(tried[:6]) + ("; ..." if len(tried) > 6 else "")
    return f"no CloudStack source found. Tried {summary or 'nothing: both sources are off'}"
