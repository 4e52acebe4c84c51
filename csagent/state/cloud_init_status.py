"""What csagent has done in this boot, in the words and layouts of cloud-init's status.

For what waits for cloud-init and finds the package csagent-cloud-init-compat. The words and exit codes are
those that "Failure states" in cloud-init's manual documents for 23.4 and later; but `not run`, which is
`not started` from 24.1 on, since more tools know it. Read from /run/csagent, and from systemd where those
files do not tell whether anything is still to come.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from csagent.console import one_line
from csagent.errors import Damaged
from csagent.state import status_files

if TYPE_CHECKING:
    from csagent.system.seams import System

NOT_RUN, RUNNING, DONE, DISABLED = "not run", "running", "done", "disabled"
ERROR, DEGRADED = "error", "degraded"
DAEMON, PATH = "csagent.service", "csagent-user-data.path"
EARLY, FINAL = "csagent-user-data-early.service", "csagent-user-data.service"
AFTER_BOOT = "csagent-user-data-after-boot.service"
UNITS = (DAEMON, PATH, EARLY, AFTER_BOOT, FINAL)
STARTED = ("active", "activating", "reloading", "deactivating")
TOLD_LIMIT = 1000  # characters
TIMEOUT = 60.0  # seconds for systemctl
LOOK_AGAIN = 1.0  # seconds
# cloud-init's stages, and which of ours they stand for.
PASS_STAGES, EARLY_STAGE, FINAL_STAGE = ("init-local", "init"), "modules-config", "modules-final"


class Unit(NamedTuple):
    """A unit, in systemctl's words."""

    active: str  # ActiveState
    file: str  # UnitFileState

    @property
    def is_to_come(self) -> bool:
        """Whether it has been started, or the boot will do that."""
        return self.active in STARTED or self.file.startswith("enabled")


class Status(NamedTuple):
    """cloud-init's status. `started` and `ended` are times of the clock, None where it has not come to that.

    Attributes:
        state: `not run`, `running`, `done` or `disabled`.
        detail: the data source, or why there is none to name.
        datasource: by cloud-init's name, `DataSourceNone` where the pass has found none; "" before that.
        errors: by cloud-init's stage.
        warnings: what was not carried out without having failed.
        pass_times: of the first pass that is known.
        user_data_ended: when both stages were over.
        damaged: what is wrong with a file that says more; it is judged as if it had not been written yet.
    """

    state: str
    detail: str
    datasource: str = ""
    errors: Mapping[str, Tuple[str, ...]] = {}
    warnings: Tuple[str, ...] = ()
    pass_times: Tuple[Optional[float], Optional[float]] = (None, None)
    user_data_ended: Optional[float] = None
    has_systemd: bool = True
    damaged: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be waited for."""
        return self.state in (DONE, DISABLED)

    @property
    def all_errors(self) -> List[str]:
        """The errors of all stages."""
        return [text for stage in sorted(self.errors) for text in self.errors[stage]]

    @property
    def word(self) -> str:
        """The status in one word; what is degraded says done or running there."""
        return ERROR if self.all_errors else self.state

    @property
    def extended(self) -> str:
        """`extended_status`."""
        if self.all_errors:
            return f"{ERROR} - {self.state}"
        return f"{DEGRADED} {self.state}" if self.warnings else self.state

    @property
    def exit_code(self) -> int:
        """1 for an error, 2 for what is degraded, else 0."""
        return 1 if self.all_errors else 2 if self.warnings else 0


def looks(system: "System") -> Iterator[Status]:
    """The status now, and again and again until it is over.

    What is damaged is as not there yet, as long as what writes it anew may be to come.

    Raises:
        Damaged: a file of csagent's has been for `NEW_ACCOUNT` seconds, or nothing is known that writes it.
        CsagentError: one cannot be read.
    """
    damaged, since = "", 0.0
    while True:
        status = look(system, waiting=True)
        now = system.clock.monotonic()
        if status.damaged != damaged:
            damaged, since = status.damaged, now
        if damaged and now - since >= status_files.NEW_ACCOUNT:
            raise Damaged(damaged)
        yield status
        if status.is_over:
            return
        system.clock.sleep(LOOK_AGAIN)


def look(system: "System", *, waiting: bool = False) -> Status:
    """The status now.

    Args:
        system: the machine.
        waiting: what is damaged is as not there yet, where systemd says that what writes it may be to come.

    Raises:
        Damaged: a file of csagent's is.
        CsagentError: one cannot be read.
    """
    status = _judge(system, {})
    if status.state == DONE:
        return status
    units = _units(system)
    # Read again: what a unit that has ended by now left there is newer than what was read before.
    status = _judge(system, units)._replace(has_systemd=bool(units))
    if status.damaged and (status.is_over or not units or not waiting):
        raise Damaged(status.damaged)
    return status


def _units(system: "System") -> Dict[str, Unit]:
    """What systemd says of our units; empty where there is none to ask."""
    words = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *UNITS]
    done = system.runner.run(words, timeout=TIMEOUT)
    if done.code != 0:
        return {}
    found = {}
    for block in done.output.decode("utf-8", "replace").split("\n\n"):
        said = dict(line.partition("=")[::2] for line in block.splitlines())
        if said.get("Id") in UNITS:
            found[said["Id"]] = Unit(said.get("ActiveState", ""), said.get("UnitFileState", ""))
    return found


def _judge(system: "System", units: Mapping[str, Unit]) -> Status:
    root = system.tree.root
    try:
        last_pass = status_files.load(root, status_files.STATUS)
    except Damaged as error:
        return _before_the_pass(units)._replace(damaged=str(error))
    if last_pass is None:
        return _before_the_pass(units)
    errors, missed, warnings = _of_the_pass(last_pass)
    source = _datasource(last_pass)
    status = Status(
        DONE,
        source,
        source,
        {"init": (*errors, *missed)},
        warnings,
        (_when(last_pass, "started"), _when(last_pass, "finished")),
    )
    try:
        document = status_files.user_data(root)
    except Damaged as error:
        state = RUNNING if _will_not_end(units) is None else DONE
        return status._replace(state=state, errors={"init": errors}, damaged=str(error))
    if document is None:
        return status._replace(user_data_ended=status.pass_times[1])
    of_user_data, warnings = _of_user_data(document)
    stages = document.get("stages")
    status = status._replace(
        errors={**status.errors, FINAL_STAGE: of_user_data}, warnings=(*status.warnings, *warnings)
    )
    # It is no error yet that an account is missing which may be made, or is given what is its own now.
    running = status._replace(state=RUNNING, errors={"init": errors, FINAL_STAGE: of_user_data})
    if not isinstance(stages, dict) or stages.get("final") != "ended":
        why = _will_not_end(units)
        if why is None:
            return running
        return status._replace(
            errors={**status.errors, FINAL_STAGE: (*of_user_data, *why)}, detail=(*why, source)[0]
        )
    at = system.tree.stat(status_files.USER_DATA)
    ended = at.st_mtime if at is not None else status.pass_times[1]
    if status_files.owes_to_an_account(last_pass) and _has_a_pass_to_come(system, units, ended):
        return running
    return status._replace(user_data_ended=ended)


def _has_a_pass_to_come(system: "System", units: Mapping[str, Unit], ended: Optional[float]) -> bool:
    """Whether the daemon runs, and user-data has ended so lately that what it made may not be served yet."""
    daemon = units.get(DAEMON)
    runs = daemon is None or daemon.active in STARTED
    return runs and ended is not None and abs(system.clock.now() - ended) < status_files.NEW_ACCOUNT


def _before_the_pass(units: Mapping[str, Unit]) -> Status:
    daemon = units.get(DAEMON)
    if daemon is None:
        return Status(NOT_RUN, "No pass of csagent has ended yet")
    if daemon.active == "failed":
        text = f"{DAEMON} has failed: see journalctl -u {DAEMON}"
        return Status(DONE, text, errors={"init": (text,)})
    if daemon.active in STARTED:
        return Status(RUNNING, "Running in stage: init")
    if daemon.is_to_come:
        return Status(NOT_RUN, f"{DAEMON} has not been started yet")
    return Status(DISABLED, f"{DAEMON} is {daemon.file or 'not installed'}")


def _will_not_end(units: Mapping[str, Unit]) -> Optional[Tuple[str, ...]]:
    """None where user-data is still to run; else why its last word is not to be waited for."""
    for name in (EARLY, AFTER_BOOT, FINAL):
        if name in units and units[name].active == "failed":
            return (f"{name} has failed: see journalctl -u {name}",)
    if FINAL in units and units[FINAL].active == "active":
        return ()  # it has ended well, and its record could not be published
    started = any(name in units and units[name].active in STARTED for name in (EARLY, FINAL))
    if PATH in units and not started and not units[PATH].is_to_come:
        return (f"{PATH} is {units[PATH].file or 'not installed'}: nothing runs the user-data",)
    return None


def _datasource(last_pass: Mapping[str, Any]) -> str:
    if last_pass.get("source_found") is not True:
        return "DataSourceNone"
    places = [one for one in _dicts(last_pass.get("places")) if one.get("outcome") in ("ok", "partial")]
    drives = [str(one.get("place")).startswith("drive ") for one in places]
    return "DataSourceConfigDrive" if drives and all(drives) else "DataSourceCloudStack"


def _of_the_pass(last_pass: Mapping[str, Any]) -> Tuple[Tuple[str, ...], Tuple[str, ...], Tuple[str, ...]]:
    """What failed of the last pass, what did for want of an account, and what should be looked at."""
    data = last_pass.get("data")
    errors: List[str] = []
    missed: List[str] = []
    warnings: List[str] = []
    for datum, entry in (data if isinstance(data, dict) else {}).items():
        if isinstance(entry, dict) and (entry.get("state") == "failed" or entry.get("wrong") is True):
            told = one_line(f"{datum}: {entry.get('reason')}", TOLD_LIMIT)
            kind = missed if status_files.missed_account(entry) else errors
            (kind if entry.get("state") == "failed" else warnings).append(told)
    return tuple(errors), tuple(missed), tuple(warnings)


def _of_user_data(document: Mapping[str, Any]) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """What failed of the document; and what of it was refused, or cut short.

    cloud-init, too, is degraded where it does not understand a part, and in error where one has failed.
    """
    errors: List[str] = []
    warnings: List[str] = []
    for part in _dicts(document.get("parts")):
        outcome = part.get("outcome")
        if outcome in ("failed", "refused", "interrupted"):
            (errors if outcome == "failed" else warnings).append(one_line(_told(part), TOLD_LIMIT))
    for entry in _dicts(document.get("instance")):
        if entry.get("state") == "failed":
            errors.append(one_line(f"{entry.get('key')} (settings): {entry.get('reason')}", TOLD_LIMIT))
    return tuple(errors), tuple(warnings)


def _told(part: Mapping[str, Any]) -> str:
    """What is wrong with a part, in one line."""
    said = []
    keys, reasons = part.get("keys"), part.get("reasons")
    for key, state in (keys if isinstance(keys, dict) else {}).items():
        if str(state).startswith(("failed", "refused", "interrupted")):
            why = reasons.get(key) if isinstance(reasons, dict) else None
            said.append(f"{key}: {state}{f': {why}' if why else ''}")
    for problem in _dicts(part.get("problems")):
        if problem.get("severity") == "error" and not problem.get("key"):
            where = f"line {problem['line']}: " if problem.get("line") else ""
            said.append(f"{where}{problem.get('text')}")
    code = f", exit {part['exit']}" if part.get("exit") else ""
    return "; ".join([f"{part.get('name')} ({part.get('kind')}): {part.get('outcome')}{code}", *said])


def _dicts(value: Any) -> List[Dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _when(document: Mapping[str, Any], key: str) -> Optional[float]:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        return None
    return float(value)


def stages_json(status: Status) -> Dict[str, Any]:
    """The members of `v1` in cloud-init's status.json, but for `datasource`."""
    start, finished = status.pass_times
    over = status.state == DONE
    end = status.user_data_ended or finished
    stage = None
    if not over and status.state != DISABLED:
        stage = FINAL_STAGE if finished is not None else "init" if status.state == RUNNING else None
    found: Dict[str, Any] = {"stage": stage}
    for name in PASS_STAGES:
        found[name] = _stage(status, name, start, finished)
    for name in (EARLY_STAGE, FINAL_STAGE):
        found[name] = _stage(status, name, finished, end if over else None)
    if status.warnings:
        found[FINAL_STAGE]["recoverable_errors"] = {"WARNING": list(status.warnings)}
    return found


def _stage(status: Status, name: str, start: Optional[float], finished: Optional[float]) -> Dict[str, Any]:
    errors = list(status.errors.get(name, ()))
    return {"errors": errors, "finished": finished, "recoverable_errors": {}, "start": start}


def status_json(status: Status) -> Dict[str, Any]:
    """The layout of cloud-init's /run/cloud-init/status.json."""
    return {"v1": {"datasource": status.datasource or None, **stages_json(status)}}


def result_json(status: Status) -> Dict[str, Any]:
    """The layout of cloud-init's /run/cloud-init/result.json."""
    return {"v1": {"datasource": status.datasource or None, "errors": status.all_errors}}


def report_json(status: Status) -> Dict[str, Any]:
    """The layout of `cloud-init status --format json`."""
    last = status.user_data_ended or status.pass_times[1]
    enabled = "enabled-by-generator" if status.has_systemd else "enabled-by-sysvinit"
    return {
        "boot_status_code": "disabled-by-generator" if status.state == DISABLED else enabled,
        "datasource": status.datasource.replace("DataSource", "").lower(),
        "detail": status.detail,
        "errors": status.all_errors,
        "extended_status": status.extended,
        "last_update": rfc_2822(last) if last is not None else "",
        "recoverable_errors": {"WARNING": list(status.warnings)} if status.warnings else {},
        "status": status.word,
        **stages_json(status),
    }


def rfc_2822(seconds: float) -> str:
    """A time as cloud-init writes it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(seconds))
