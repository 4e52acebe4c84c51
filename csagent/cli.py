"""Commands to functions, no logic. What a command needs is imported when it is run: start-up is budgeted."""

from __future__ import annotations

import argparse
import os
import sys

from csagent import __version__
from csagent.arguments import Parser, formatter, global_options, seconds, with_json, with_places
from csagent.errors import EXIT_FAILED, EXIT_NO_SOURCE, EXIT_OK, CsagentError, SourceNotFound, UsageError

TYPE_CHECKING = False  # status and query do without typing, as without most of csagent
if TYPE_CHECKING:
    from typing import Any, List, Mapping, Optional, Sequence, Tuple

    from csagent.children import Options
    from csagent.model import Observed
    from csagent.settings import Settings
    from csagent.show.console import Console
    from csagent.system import System

EPILOG = """\
exit codes: 0 done or nothing to do, 1 failed, 2 usage or settings,
3 some data applied and some failed, 4 no CloudStack source found"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; every failure is one line on standard error and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = build_parser("lab" in words).parse_args(words)
        return int(parsed.run(parsed))
    except SystemExit as error:  # argparse: --help, --version, usage
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    except CsagentError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; run it again to finish")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
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
    if sys.stderr is not None:
        print(f"csagent: {' '.join(text.split())}", file=sys.stderr)


def entry() -> None:
    """The console script: run, flush, and leave without tearing the interpreter down, which takes 8 ms."""
    for standard in (0, 1, 2):  # started with a closed one: what we open must not take its place
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and stream is sys.stdout:
                _complain(f"standard output: {error.strerror}")
            code = code or EXIT_FAILED
    os._exit(code)


# --- the parser -------------------------------------------------------------------------------


def build_parser(with_lab: bool = True) -> argparse.ArgumentParser:
    """The whole command line. `with_lab` false leaves out the lab's own options, and their imports."""
    parser = Parser(
        prog="csagent",
        description="The guest agent for Apache CloudStack: makes hostname, SSH keys and\n"
        "password what CloudStack says, and explains what it did.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"csagent {__version__}")
    global_options(parser, "/", None, 0, False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="csagent")
    shared = Parser(add_help=False, formatter_class=formatter)
    # Also accepted behind the command; SUPPRESS keeps a value given before it.
    global_options(shared, *[argparse.SUPPRESS] * 4)

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            parents=[shared],
            epilog=EPILOG,
            formatter_class=formatter,
        )
        command.set_defaults(run=run)
        return command

    with_json(add("discover", _discover, "where csagent would look and why; contacts nobody"))
    fetch = with_json(add("fetch", _fetch, "what CloudStack says about this VM, never acknowledging"))
    with_places(fetch)
    fetch.add_argument("--show-secrets", action="store_true", help="show the password (root only)")
    fetch.add_argument(
        "--save",
        metavar="DIR",
        help="write what was read below DIR, mode 0600; the password only with --show-secrets",
    )
    plan = with_json(add("plan", _plan, "what apply would do and why, as a diff; changes nothing"))
    with_places(plan)
    apply = with_json(
        add("apply", _apply, "one pass, now: hostname, SSH keys and password; tells CloudStack last")
    )
    with_places(apply)
    for command in (plan, apply):
        command.add_argument(
            "--force-password", action="store_true", help="set an offered password even if it is an older one"
        )
    daemon = add("daemon", _daemon, "a pass at start, then whenever there is something new; for systemd")
    with_places(daemon)
    status = with_json(add("status", _status, "what the last pass did, per datum, and why"))
    status.add_argument(
        "--wait", metavar="SECONDS", type=seconds, default=0.0, help="wait so long for the first pass to end"
    )
    query = add("query", _query, "one value of the last pass, for scripts")
    query.add_argument(
        "key", metavar="KEY", help="hostname, instance_id, ssh_keys, user_data, network or a metadata key"
    )
    lab = add("lab", None, "a virtual router and config drives to try csagent on, no cloud needed")
    if with_lab:
        from csagent.lab import command as lab_command

        lab_command.add_arguments(lab)
    return parser


# --- the commands -----------------------------------------------------------------------------


def _load(parsed: argparse.Namespace) -> Tuple["System", "Settings"]:
    from csagent import settings
    from csagent.system import System

    system = System.at(parsed.root)
    return system, settings.load(system, parsed.config)


def _options(parsed: argparse.Namespace, sources: "Sequence[str]") -> "Options":
    from csagent.children import Options

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
    from csagent.show.console import Console

    return Console.of()


def _print_json(document: Any) -> None:
    import json

    print(json.dumps(document, indent=1))


def _wait(parsed: argparse.Namespace, settings: "Settings") -> float:
    return float(settings.wait if parsed.wait is None else parsed.wait)


def _discover(parsed: argparse.Namespace) -> int:
    from csagent import children
    from csagent.show import discover

    system, settings = _load(parsed)
    found = children.discover(system, settings.drive_labels)
    if parsed.json:
        _print_json(discover.as_json(found))
    elif not parsed.quiet:
        console = _console()
        sys.stdout.write(discover.as_text(found, console.width, console.colour))
    return EXIT_OK


def _observe(parsed: argparse.Namespace) -> Tuple["System", "Settings", "Observed"]:
    from csagent.observe import observe
    from csagent.private import keep_memory_private

    keep_memory_private()
    system, settings = _load(parsed)
    options = _options(parsed, settings.sources)
    observed = observe(system, settings, options, wait=_wait(parsed, settings))
    if parsed.verbose:
        from csagent.log import Log

        log = Log(_verbosity(parsed))
        for place in observed.observation.places:
            took = f", {place.seconds:.3f} s" if place.seconds is not None else ""
            log.debug(f"{place.place} ({place.why}): {place.outcome}, {place.detail}{took}")
    return system, settings, observed


def _fetch(parsed: argparse.Namespace) -> int:
    from csagent.show import fetch

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
    from csagent.show import plan

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
    from csagent.log import Log
    from csagent.private import keep_memory_private
    from csagent.show import status

    keep_memory_private()
    system, settings = _load(parsed)
    log = Log(_verbosity(parsed))
    options = _options(parsed, settings.sources)
    report = agent.run_pass(system, settings, options, wait=_wait(parsed, settings), log=log.debug)

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
    from csagent.daemon import Daemon
    from csagent.log import Log
    from csagent.private import keep_memory_private

    keep_memory_private()
    if os.path.realpath(parsed.root) == "/" and os.geteuid() != 0:
        raise CsagentError("the daemon needs root (or a tree of yours to work on: --root DIR)")

    def prepare(plain: Optional[Mapping[str, Any]]) -> Tuple["System", "Settings", "Options"]:
        from csagent.settings import Settings
        from csagent.system import System

        if plain is None:
            system, settings = _load(parsed)
        else:
            system, settings = System.at(parsed.root), Settings.from_plain(plain)
        return system, settings, _options(parsed, settings.sources)

    return Daemon(prepare, Log(_verbosity(parsed)), parsed.wait).run()


def _status(parsed: argparse.Namespace) -> int:
    from csagent.show import status

    document = status.wait_for(parsed.root, status.STATUS, parsed.wait)
    if parsed.json:
        _print_json(document)
    elif not parsed.quiet:
        sys.stdout.write(status.as_text(document, _console()))
    return EXIT_OK


def _query(parsed: argparse.Namespace) -> int:
    from csagent.show import status

    instance = status.wait_for(parsed.root, status.INSTANCE, 0.0)
    sys.stdout.flush()
    sys.stdout.buffer.write(status.query(parsed.root, parsed.key, instance))
    sys.stdout.flush()
    return EXIT_OK


def _verbosity(parsed: argparse.Namespace) -> int:
    return 0 if parsed.quiet else 1 + int(parsed.verbose or 0)


def no_source(observed: "Observed") -> str:
    """One line that says what was tried and what came of it."""
    tried: List[str] = []
    for place in observed.observation.places:
        tried.append(f"{place.place}: {place.outcome}{f' ({place.detail})' if place.detail else ''}")
    summary = "; ".join(tried[:6]) + ("; ..." if len(tried) > 6 else "")
    return f"no CloudStack source found. Tried {summary or 'nothing: both sources are off'}"
