"""One pass of the daemon, in a process of its own.

What a pass needs (the decoders, the hashes, the libraries behind them) would stay with the daemon for ever
after: 8 MiB of it, and whatever leaks. A process that ends gives all of it back.
"""

from __future__ import annotations

import os
import signal
import time

from csagent.errors import CsagentError, Interrupted, JailError, SettingsError, UsageError
from csagent.system.child_process import ChildProcess, fork, say
from csagent.system.process import die_with
from csagent.system.systemd import SIGNALS, Signals

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Tuple

    from csagent.log import Log
    from csagent.plan import Report
    from csagent.settings import Settings
    from csagent.sources.request import Options, PassRequest
    from csagent.system.seams import System

    Prepare = Callable[[Optional[Mapping[str, Any]]], Tuple[System, Settings, Options]]

REPORT_LIMIT = 1 << 20


class PassProcess(ChildProcess):
    """A pass under way: readable when there is news, then `documents`."""

    _reported = False

    def documents(self) -> List[Dict[str, Any]]:
        """What it has said since the last call; the last of all is its report, and then it is `finished`."""
        try:
            documents = list(self.collect())
        except JailError as error:
            documents = [{"error": str(error)}]
        self._reported = self._reported or any(not {"settings", "takes"} & set(one) for one in documents)
        if self.finished and not self._reported:
            documents.append({"error": f"the pass {self.ending()}"})
        return documents

    def stop(self) -> None:
        """Have it end its wait, or the action that it is at."""
        self.signal(signal.SIGTERM)

    def end(self) -> None:
        """Have it end as soon as it can; what it was at is mended by the next pass."""
        self.signal(signal.SIGKILL)


def start(prepare: Prepare, request: Mapping[str, Any], log: Log) -> PassProcess:
    """Fork, and run a pass there.

    Args:
        prepare: makes the system, the settings and the options, from the settings of an earlier pass or,
            where there are none, from the files.
        request: "settings" of an earlier report or None, "wait" (None: the setting's) and "grace" in seconds,
            "quiet": nothing was found before, so that finding nothing again is no news.
        log: where decisions go.

    It says first {"settings", "watching" at all, "patterns" of lease files, "network", "labels" of drives,
    "account": the name of one that is missing or None, "cloud_init": the file that it writes at its end or
    None, "poll", "longest"};
    {"takes": seconds} where it begins something long;
    then, of the pass, {"found", "finished", "partly", "missing", "early", "failed", "drive", "router",
    "nics", "status", "note", "current_at"}; or {"interrupted": True}, or {"error": text, "usage": whether it
    will not go away by itself}.

    Raises:
        JailError: there is no process for it.
    """
    pid, reading = fork("pass", lambda writing, parent: _live_and_die(prepare, request, log, writing, parent))
    return PassProcess(pid, reading, "the pass", REPORT_LIMIT)


def _live_and_die(
    prepare: Prepare, request: Mapping[str, Any], log: Log, writing: int, parent: int
) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signals = Signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        die_with(parent, signal.SIGTERM)
        _run(prepare, request, log, signals, writing)
        code = 0
    except BaseException:  # noqa: S110  the daemon is gone, or memory is: it sees a pass without a report
        pass
    finally:
        os._exit(code)


def _run(prepare: Prepare, request: Mapping[str, Any], log: Log, signals: Signals, writing: int) -> None:
    try:
        system, settings, options = prepare(request["settings"])
        wait = settings.wait if request["wait"] is None else request["wait"]
        say(writing, _world(system, settings, options, wait))
        from csagent.sources.request import PassRequest

        patient = True
        asked = PassRequest(
            *(system, settings, options, wait, request["grace"], patient, signals),
            takes=lambda seconds: say(writing, {"takes": seconds}),
            log=log.info,
        )
        say(writing, _one_pass(asked, log, quiet=request["quiet"]))
    except (UsageError, SettingsError) as error:
        say(writing, {"error": str(error), "usage": True})
    except CsagentError as error:
        say(writing, {"error": str(error)})
    except Exception as error:
        # A bug, or a machine at its end; either way the next event deserves another pass. Its text may
        # hold what was being worked on.
        say(writing, {"error": f"the pass failed ({type(error).__name__})"})


def _world(system: System, settings: Settings, options: Options, wait: float) -> Dict[str, Any]:
    """What the daemon has to know of the settings, of the places to watch, and of the pass to come."""
    from csagent.agent import CLOUD_INIT, CLOUD_INIT_ENDS, ROUNDS
    from csagent.discovery import finder

    watching = system.live and not options.given
    patterns = list(finder.lease_patterns()) if watching and "router" in settings.sources else []
    network = watching and (bool(patterns) or (settings.network and "drive" in settings.sources))
    ends = None
    if watching and system.tree.exists(CLOUD_INIT):
        from csagent.other_agents import cloud_init

        ends = CLOUD_INIT_ENDS if cloud_init.is_installed(system) else None
    return {
        "settings": settings.as_plain(),
        "watching": watching,
        "patterns": patterns,
        "network": network,
        "labels": list(settings.drive_labels) if watching and "drive" in settings.sources else [],
        "account": settings.user if watching and not _has_account(system, settings) else None,
        "cloud_init": ends,
        "poll": settings.poll,
        "longest": ROUNDS * wait,
    }


def _has_account(system: System, settings: Settings) -> bool:
    """Whether there is somebody to give key and password to; user-data, or an owner, may yet make him."""
    from csagent.errors import ApplyError
    from csagent.system import accounts

    try:
        accounts.find(system, settings.user)
    except ApplyError:
        return False
    return True


def _one_pass(request: PassRequest, log: Log, *, quiet: bool) -> Dict[str, Any]:
    from csagent import agent
    from csagent.discovery import finder
    from csagent.state import console_mark

    found_before = console_mark.source_found(request.system)
    try:
        report = agent.run_pass(request)
    except Interrupted:
        return {"interrupted": True}
    found = report.observed.observation.source_found
    console_mark.leave(request.system, found_before, found=found, first=report.first)
    summary = _summary(report, request, log, quiet=quiet)
    looked_at = time.monotonic()
    marks = finder.watchmarks(request.system, request.settings.drive_labels)
    if marks == report.observed.marks:
        summary["current_at"] = looked_at
    return summary


def _summary(report: Report, request: PassRequest, log: Log, *, quiet: bool) -> Dict[str, Any]:
    from csagent.model import channel
    from csagent.state.status_files import OF_THE_ACCOUNT

    settings = request.settings
    observation = report.observed.observation
    channels = {channel(place) for place in observation.provenance.values()}
    untold = any(outcome.acknowledged == "no" for outcome in report.outcomes)
    unnamed = settings.hostname and not observation.hostname
    missing = "router" in channels and (unnamed or (settings.ssh_keys and not observation.ssh_keys))
    wants_router = "router" in request.sources and not request.options.given
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
        "finished": answered and (not wants_router or "router" in channels),
        "partly": observation.source_found and (untold or not observation.complete),
        "missing": missing,
        "early": missing and report.first,
        "failed": any(one.state == "failed" and one.datum in OF_THE_ACCOUNT for one in report.outcomes),
        "drive": "drive" in channels,
        "router": "router" in channels,
        "nics": settings.network and bool((observation.network or {}).get("networks")),
        "status": status,
        "note": report.note,
        "current_at": 0.0,  # events before that moment are accounted for
    }
