"""One pass of the daemon, in a process of its own.

What a pass needs (the decoders, the hashes, the libraries behind them) would stay with the daemon for ever
after: 8 MiB of it, and whatever leaks. A process that ends gives all of it back.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from csagent.errors import CsagentError, SettingsError, UsageError
from csagent.system.files import write_all
from csagent.system.systemd import SIGNALS, Signals

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Tuple

    from csagent.log import Log
    from csagent.plan import Report
    from csagent.settings import Settings
    from csagent.sources.jobs import Options
    from csagent.system.seams import System

    Prepare = Callable[[Optional[Mapping[str, Any]]], Tuple[System, Settings, Options]]

REPORT_LIMIT = 1 << 20


class Turn:
    """A pass under way: readable when there is news, then `collect`."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._said = b""
        self._how = ""
        self._reported = False
        self.done = False
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """What to wait for."""
        return self._descriptor

    def collect(self) -> List[Dict[str, Any]]:
        """What it has said since the last call; the last of all is its report, and then it is `done`."""
        while not self.done:
            try:
                piece = os.read(self._descriptor, 65536)
            except BlockingIOError:
                break
            self._said += piece
            if not piece or len(self._said) > REPORT_LIMIT:
                self._finish()
        *lines, self._said = self._said.split(b"\n")
        told = [json.loads(line) for line in lines]
        self._reported = self._reported or any("settings" not in one for one in told)
        if self.done and not self._reported:
            told.append({"error": f"the pass ended early ({self._how})"})
        return told

    def _finish(self) -> None:
        os.close(self._descriptor)
        self.kill()
        status = os.waitpid(self.pid, 0)[1]
        self._how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no report"
        self.done = True

    def stop(self) -> None:
        """Have it end its wait, or the action that it is at."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; what it was at is mended by the next pass."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def start(prepare: Prepare, request: Mapping[str, Any], log: Log) -> Turn:
    """Fork, and run a pass there.

    Args:
        prepare: makes the system, the settings and the options, from the settings of an earlier pass or,
            where there are none, from the files.
        request: "settings" of an earlier report or None, "wait" and "grace" in seconds, "quiet": nothing
            was found before, so that finding nothing again is no news.
        log: where decisions go.

    It says first {"settings", "watching", "patterns" of files, "labels", "poll", "longest"}; then,
    of the pass, {"found", "finished", "partly", "missing", "early", "drive", "router", "status", "note",
    "current_at"}; or
    {"interrupted": True}, or {"error": text, "usage": whether it will not go away by itself}.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Until the child has handlers of its own, a signal would be noted in our flags, which it never reads.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _live_and_die(prepare, request, log, writing, parent)
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.close(writing)
    return Turn(pid, reading)


def _live_and_die(
    prepare: Prepare, request: Mapping[str, Any], log: Log, writing: int, parent: int
) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signals = Signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        from csagent.sandbox.jail import die_with

        die_with(parent, signal.SIGTERM)
        _tell(prepare, request, log, signals, writing)
        code = 0
    except BaseException:  # noqa: S110  the daemon is gone, or memory is: it sees a pass without a report
        pass
    finally:
        os._exit(code)


def _tell(prepare: Prepare, request: Mapping[str, Any], log: Log, signals: Signals, writing: int) -> None:
    def say(document: Dict[str, Any]) -> None:
        write_all(writing, json.dumps(document).encode() + b"\n")

    try:
        system, settings, options = prepare(request["settings"])
        say(_world(system, settings, options, request["wait"]))
        say(_one_pass(system, settings, options, request, log, signals))
    except (UsageError, SettingsError) as error:
        say({"error": str(error), "usage": True})
    except CsagentError as error:
        say({"error": str(error)})
    except Exception as error:
        # A bug, or a machine at its end; either way the next event deserves another pass. Its text may
        # hold what was being worked on.
        say({"error": f"the pass failed ({type(error).__name__})"})


def _world(system: System, settings: Settings, options: Options, wait: Optional[float]) -> Dict[str, Any]:
    """What the daemon has to know of the settings, of the places to watch, and of the pass to come."""
    from csagent.agent import CLOUD_INIT, CLOUD_INIT_ENDS, ROUNDS
    from csagent.discovery import finder

    watching = system.live and not options.given
    patterns = list(finder.lease_patterns()) if watching and "router" in settings.sources else []
    if watching and system.tree.exists(CLOUD_INIT):
        patterns.append(CLOUD_INIT_ENDS)
    return {
        "settings": settings.as_plain(),
        "watching": watching,
        "patterns": patterns,
        "labels": list(settings.drive_labels) if watching and "drive" in settings.sources else [],
        "poll": settings.poll,
        "longest": ROUNDS * (settings.wait if wait is None else wait),
    }


def _one_pass(
    system: System,
    settings: Settings,
    options: Options,
    request: Mapping[str, Any],
    log: Log,
    signals: Signals,
) -> Dict[str, Any]:
    from csagent import agent
    from csagent.discovery import finder
    from csagent.sources.observe import Interrupted

    wait = request["wait"]
    try:
        report = agent.run_pass(
            system,
            settings,
            options,
            wait=settings.wait if wait is None else wait,
            grace=request["grace"],
            wake=signals,
            log=log.info,
        )
    except Interrupted:
        return {"interrupted": True}
    told = _summary(report, settings, options, log, quiet=request["quiet"])
    looked_at = time.monotonic()
    if finder.watchmarks(system, settings.drive_labels) == report.observed.marks:
        told["current_at"] = looked_at
    return told


def _summary(
    report: Report, settings: Settings, options: Options, log: Log, *, quiet: bool
) -> Dict[str, Any]:
    observation = report.observed.observation
    channels = {place.split(" ", 1)[0] for place in observation.provenance.values()}
    untold = any(outcome.acknowledged == "no" for outcome in report.outcomes)
    wants_router = "router" in settings.sources and options.source in (None, "router")
    missing = "router" in channels and not (observation.hostname and observation.ssh_keys)
    answered = observation.source_found and observation.complete and not untold
    if observation.source_found:
        states = ", ".join(f"{outcome.datum} {outcome.state}" for outcome in report.outcomes)
        status = f"instance {observation.instance_id or 'unknown'}: {states}"
    else:
        status = "no CloudStack source found so far"
        if not quiet:
            log.info("no CloudStack source found so far; still looking, quietly", event="no-source")
            for place in observation.places:
                log.debug(f"{place.place}: {place.outcome}, {place.detail}")
    return {
        "found": observation.source_found,
        "finished": answered and (not wants_router or "router" in channels or options.given),
        "partly": observation.source_found and (untold or not observation.complete),
        "missing": missing,
        "early": missing and report.first,
        "drive": "drive" in channels,
        "router": "router" in channels,
        "status": status,
        "note": report.note,
        "current_at": 0.0,  # events before that moment are accounted for
    }
