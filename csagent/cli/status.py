"""`status` and `query`: read what the last pass left in /run/csagent. Started often, so it imports little."""

from __future__ import annotations

import os
import time

from csagent.console import Console, safe
from csagent.errors import CsagentError
from csagent.state.status_files import VARIABLES, load, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Tuple

COLOURS = {"done": "applied", "failed": "failed", "interrupted": "failed", "refused": "refused"}
AGAIN = {
    "changed": "it has changed since it ran, and does not run by itself: csagent user-data run --again",
    "interrupted": "what was cut short does not run again by itself; csagent user-data run --again does",
}
KEYS = ("hostname", "instance_id", "ssh_keys", "user_data", "network")  # beside the metadata's own


def as_text(status: Mapping[str, Any], console: Console) -> str:
    """The last pass as text, one paragraph for each datum."""
    finished = status.get("finished")
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(finished)) if _number(finished) else "?"
    seconds = status.get("seconds")
    took = f", took {seconds:.1f} s" if _number(seconds) else ""
    lines = console.wrap(f"last pass {when}{took}")
    lines += console.wrap(f"instance {status.get('instance_id') or 'not known'}")
    if not status.get("source_found"):
        lines.append(console.paint("no CloudStack source was found", "bad"))
    if status.get("note"):
        lines += console.wrap(str(status["note"]))
    data = status.get("data")
    for datum, entry in (data if isinstance(data, dict) else {}).items():
        if not isinstance(entry, dict):
            continue
        state = safe(str(entry.get("state")))
        lines.append(f"{console.paint(f'{safe(datum)}:', 'head')} {console.paint(state, state)}")
        told = entry.get("source") and state != "failed"  # a failure here is not its source's
        source = f" ({entry['source']})" if told else ""
        reason = console.wrap(f"{entry.get('reason', '')}{source}", 4)
        lines += [console.paint(line, "note") for line in reason] if entry.get("wrong") is True else reason
        for nic in _list(entry.get("nics")):
            name = safe(str(nic.get("interface") or nic.get("mac")))
            lines += console.wrap(f"{name}: {nic.get('state')}: {nic.get('reason')}", 4, "  ")
        acknowledged = entry.get("acknowledged")
        if acknowledged in ("yes", "no"):
            lines += console.wrap(f"password server told: {acknowledged}", 4)
    user_data = status.get("user_data")
    if isinstance(user_data, dict):
        lines += _ran(user_data, console)
    lines.append(console.paint("looked at", "head"))
    for place in _list(status.get("places")):
        outcome = str(place.get("outcome"))
        lines += console.wrap(f"{place.get('place')}: {outcome}", 4, "  ")
        if place.get("detail"):
            lines += console.wrap(str(place["detail"]), 6)
    return "\n".join(lines) + "\n"


def _list(value: Any) -> List[Dict[str, Any]]:
    """Its mappings; none where it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _ran(document: Mapping[str, Any], console: Console) -> List[str]:
    """What became of the document, per part and key; who can mend it, where it can be run again."""
    state = str(document.get("state"))
    lines = [
        f"{console.paint('user-data run:', 'head')} {console.paint(safe(state), COLOURS.get(state, 'off'))}"
    ]
    for part in _list(document.get("parts")):
        code = f", exit {part['exit']}" if _number(part.get("exit")) and part["exit"] else ""
        kind = "template of a " if part.get("template") is True else ""
        lines += console.wrap(
            f"{part.get('name')} ({kind}{part.get('kind')}): {part.get('outcome')}{code}", 4, "  "
        )
        keys, reasons = part.get("keys"), part.get("reasons")
        for key, said in (keys if isinstance(keys, dict) else {}).items():
            why = reasons.get(key) if isinstance(reasons, dict) else None
            if why or said not in ("done", "waiting"):
                lines += console.wrap(f"{key}: {said}{f': {why}' if why else ''}", 8, "    ")
        for one in _list(part.get("problems")):
            if not one.get("key") and one.get("severity") == "error":
                where = f"line {one['line']}: " if one.get("line") else ""
                lines += console.wrap(f"{where}{one.get('text')}", 8, "    ")
        warnings = part.get("warnings")
        for warning in warnings if isinstance(warnings, list) else []:
            lines += console.wrap(f"warning: {warning}", 8, "    ")
    notes = document.get("notes")
    for note in notes if isinstance(notes, list) else []:
        lines += console.wrap(str(note), 4)
    if state in AGAIN:
        lines += console.wrap(AGAIN[state], 4)
    return lines


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e11


def query(root: str, key: str, instance: Dict[str, Any]) -> bytes:
    """The value of a key as bytes to print, lists one item a line.

    Keys are csagent's own words `hostname`, `instance_id`, `ssh_keys`, `user_data`, `network`, for which no
    metadata key of that name ever answers, and the metadata's own names.

    Raises:
        CsagentError: the last pass has no such value; the message names those it has.
    """
    name = key.replace("-", "_").lower()
    if name == "user_data":
        return _user_data(root, instance)
    metadata, hint = _metadata(instance), ""
    if name in KEYS:
        value: Any = instance.get(name)
    else:
        value = _find(metadata, key)
        if value is None:
            variables, hint = _variables(root)
            value = variables.get(key) if _is_cloudstacks(key) else _find(variables, key)
            metadata = {**metadata, **variables}
    if value is None:
        known = [word for word in KEYS if instance.get(word)]
        raise CsagentError(
            f"the last pass knows no {key!r}; it knows: {', '.join([*known, *metadata])}{hint}"
        )
    if isinstance(value, list):
        return "".join(f"{item}\n" for item in value).encode("utf-8", "replace")
    if isinstance(value, dict):
        import json

        return json.dumps(value).encode() + b"\n"
    return f"{value}\n".encode("utf-8", "replace")


def _metadata(document: Dict[str, Any]) -> Dict[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _find(metadata: Dict[str, Any], key: str) -> Any:
    """Its value; where no key is spelled so, that of one whose case differs."""
    value = metadata.get(key)
    if value is None:
        value = next((found for known, found in metadata.items() if known.lower() == key.lower()), None)
    return value


def _is_cloudstacks(key: str) -> bool:
    """Whether CloudStack itself has a key that is called so, in any case: no variable is taken for that."""
    from csagent.validation import WELL_KNOWN_KEYS

    return key.lower() in WELL_KNOWN_KEYS


def _variables(root: str) -> Tuple[Dict[str, Any], str]:
    """The instance's own keys, and what to say where they cannot be read."""
    if os.geteuid() != 0 and os.path.realpath(root) == "/":
        return {}, "; user-data's own variables are for root only"
    return _metadata(load(root, VARIABLES) or {}), ""


def _user_data(root: str, instance: Dict[str, Any]) -> bytes:
    if not instance.get("user_data"):
        raise CsagentError("the last pass knows no user-data")
    from csagent.state import applied

    identity = instance.get("memory_id")
    path = applied.user_data_path(str(identity) if identity else None)
    try:
        return read(root, path)
    except OSError as error:
        hint = "; user-data is for root only" if os.geteuid() != 0 else ""
        shown = path if root == "/" else f"{root.rstrip('/')}{path}"
        raise CsagentError(f"cannot read {shown}: {error.strerror}{hint}") from None
