"""What a pass leaves in /run/csagent for everybody to read, no secrets.

These are status.json, instance.json, and csagent.prom for a monitoring system. Of the metadata everybody may
read what CloudStack itself says of a VM; what its owner has put there, the variables of user-data, is in
variables.json, for root. A value that is a secret of the protocol's is in neither.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from csagent import __version__
from csagent.console import one_line
from csagent.errors import EXIT_NO_SOURCE
from csagent.model import channel
from csagent.state import metrics
from csagent.state.status_files import INSTANCE, STATUS, VARIABLES
from csagent.system import json_limits
from csagent.validation import WELL_KNOWN_KEYS, is_secret_key

if TYPE_CHECKING:
    from csagent.model import Observation
    from csagent.plan import Outcome, Report
    from csagent.system.seams import System

RUN = os.path.dirname(STATUS)
METRICS = RUN + "/csagent.prom"  # node_exporter reads what ends in .prom
# JSON leaves them as they are: DEL and C1, and marks and turns of Unicode's bidirectional algorithm (UAX #9).
STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
COUNT_LIMIT = 10**15  # of failures; whoever writes more of them into the file is not us


def write(system: "System", report: "Report", before: Optional[Dict[str, Any]] = None) -> "Report":
    """Replace all files, and return the report with its status.

    A full or read-only /run does not undo what the pass has done.

    Args:
        before: what `previous` said before this pass; None: it is asked.
    """
    status = status_json(report, previous(system) if before is None else before)
    try:
        system.tree.mkdir(RUN, 0o755, durable=False)
        if report.exit_code != EXIT_NO_SOURCE:
            instance, variables = _with_the_unheard(system, report)
            system.tree.write(VARIABLES, _dump(variables), 0o600, durable=False)
            system.tree.write(INSTANCE, _dump(instance), 0o644, durable=False)
        system.tree.write(METRICS, metrics.as_text(status), 0o644, durable=False)
        # Last: who waits for it asks the others then.
        system.tree.write(STATUS, _dump(status), 0o644, durable=False)
    except OSError as error:
        note = f"the record of this pass could not be written to {system.tree.shown(RUN)}: {error.strerror}"
        _forget(system)
        report = report._replace(note=f"{report.note}; {note}" if report.note else note)
    return report._replace(status=status)


def unheard(system: "System", observation: "Observation") -> Mapping[str, str]:
    """By datum, the place that gave it in the last pass that found a source, and did not answer in this one.

    A router or drive of another name counts for one that has gone: it answers for the same channel.
    """
    return _unheard(_read(system, INSTANCE), observation)


def _unheard(last: Mapping[str, Any], observation: "Observation") -> Mapping[str, str]:
    came = last.get("provenance")
    heard = {channel(place.place) for place in observation.places if place.believed}
    given = came.items() if isinstance(came, dict) else ()
    return {datum: place for datum, place in given if isinstance(place, str) and channel(place) not in heard}


def _with_the_unheard(system: "System", report: "Report") -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """What is in instance.json and variables.json: of who was silent, what he said last of this instance."""
    instance, variables = instance_json(report), variables_json(report)
    before = _read(system, INSTANCE)
    silent = _unheard(before, report.observed.observation)
    if not silent or before.get("memory_id") != instance["memory_id"]:
        return instance, variables
    for datum, place in silent.items():
        if datum in instance and datum not in instance["provenance"]:
            instance[datum] = before.get(datum)
            instance["provenance"][datum] = place
    for document, last in ((instance, before), (variables, _read(system, VARIABLES))):
        known = last.get("metadata")
        document["metadata"] = {**(known if isinstance(known, dict) else {}), **document["metadata"]}
    return instance, variables


def _forget(system: "System") -> None:
    """Better no status than that of another pass; removing works on a full disk."""
    for path in (STATUS, METRICS):
        try:
            system.tree.remove(path)
        except OSError:
            pass  # a read-only file system: the note says that nothing could be written


def _dump(document: Dict[str, Any]) -> bytes:
    """As UTF-8, in which a name of any language can be read; what steers a terminal has JSON's escape."""
    text = json.dumps(document, indent=1, sort_keys=False, ensure_ascii=False)
    text = STEERING.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def previous(system: "System") -> Dict[str, Any]:
    """The last pass's "data", one entry per datum; empty where there was none, or it is damaged."""
    data = _read(system, STATUS).get("data")
    return data if isinstance(data, dict) else {}


def _read(system: "System", path: str) -> Dict[str, Any]:
    """What a file of ours says; nothing where it is not there, or damaged."""
    try:
        document = json_limits.loads(system.tree.read(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def status_json(report: "Report", before: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """The layout of status.json and of `csagent status --json`.

    `data` maps each datum to its state, reason, source, `wrong` (somebody should look at it: it failed, or
    was not read whole), `applied_at`, the time of the last pass since boot that changed it, and `failures`,
    the passes since boot in which it went wrong. Each of `places` has the `seconds` that it took to answer,
    where they were measured. `network` has the `nics`, each with its MAC address, name, state and reason.
    """
    observation = report.observed.observation
    return {
        "schema": 1,
        "version": __version__,
        "instance_id": observation.instance_id,
        "source_found": observation.source_found,
        "started": round(report.started, 3),
        "finished": round(report.finished, 3),
        "seconds": round(max(0.0, report.finished - report.started), 3),
        "exit_code": report.exit_code,
        "note": one_line(report.note) or None,
        "data": {
            outcome.datum: _datum(outcome, report, (before or {}).get(outcome.datum))
            for outcome in report.outcomes
        },
        "places": [{**place_json(place), "seconds": place.seconds} for place in observation.places],
        "refusals": refusals_json(observation),
    }


def _datum(outcome: "Outcome", report: "Report", before: Any) -> Dict[str, Any]:
    known = before if isinstance(before, dict) else {}
    applied_at, failures = known.get("applied_at"), known.get("failures")
    if isinstance(applied_at, bool) or not isinstance(applied_at, (int, float)):
        applied_at = None
    if isinstance(failures, bool) or not isinstance(failures, int) or not 0 <= failures < COUNT_LIMIT:
        failures = 0
    if outcome.state == "applied":
        applied_at = round(report.finished, 3)
    document: Dict[str, Any] = {
        "state": outcome.state,
        "reason": one_line(outcome.reason),
        "source": outcome.source or None,
        "wrong": outcome.wrong or outcome.state == "failed",
        "applied_at": applied_at,
        "failures": failures + int(outcome.wrong or outcome.state == "failed"),
    }
    if outcome.acknowledged is not None:
        document["acknowledged"] = outcome.acknowledged
    if outcome.nics:
        document["nics"] = [nic._asdict() for nic in outcome.nics]
    return document


def place_json(place: Any) -> Dict[str, Any]:
    """One place, as in `fetch --json`."""
    told = {"place": place.place, "why": place.why, "outcome": place.outcome, "detail": place.detail}
    return {name: one_line(text) for name, text in told.items()}


def refusals_json(observation: "Observation") -> List[Dict[str, Any]]:
    """What was read and not believed."""
    return [
        {"datum": one_line(one.datum), "place": one_line(one.place), "reason": one_line(one.reason)}
        for one in observation.refusals
    ]


def user_data_json(observation: "Observation") -> Optional[Dict[str, Any]]:
    """What the user-data is, nothing of what is in it."""
    data = observation.user_data
    return None if data is None else {"size": data.size, "sha256": data.sha256, "kind": data.kind}


def instance_json(report: "Report") -> Dict[str, Any]:
    """What `query` answers from. No password, no user-data; that lies under `memory_id`, for root.

    `metadata` has the well-known keys only; the others are in `variables_json`.
    """
    observation = report.observed.observation
    metadata = observation.metadata
    return {
        "schema": 1,
        "instance_id": observation.instance_id,
        "memory_id": report.memory_id,
        "hostname": observation.hostname,
        "metadata": {key: metadata[key] for key in metadata if key in WELL_KNOWN_KEYS},
        "ssh_keys": list(observation.ssh_keys),
        "user_data": user_data_json(observation),
        "network": observation.network,
        "provenance": dict(observation.provenance),
    }


def variables_json(report: "Report") -> Dict[str, Any]:
    """The keys of the instance's own, which `query` answers from for root."""
    metadata = report.observed.observation.metadata
    return {
        "schema": 1,
        "metadata": {
            key: value
            for key, value in metadata.items()
            if key not in WELL_KNOWN_KEYS and not is_secret_key(key)
        },
    }
