"""What CloudStack says about this VM, with where each thing came from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from csagent.console import Console, shorten
from csagent.errors import ApplyError
from csagent.state.published import place_json, refusals_json, user_data_json
from csagent.validation import WELL_KNOWN_KEYS, is_secret_key

if TYPE_CHECKING:
    from csagent.model import Observation

SAVED_LIMIT = 16 << 20  # bytes of an earlier fetch.json
NAME_LIMIT = 230  # of a file, with what a temporary one needs
SHOWN_APART = ("public-keys", "local-hostname", "instance-id")


def as_json(observation: "Observation", *, show_secrets: bool = False) -> Dict[str, Any]:
    """The layout of `fetch --json`: other programs rely on it, so it only grows."""
    offer = observation.password
    metadata = {key: _shown(key, value, show_secrets) for key, value in observation.metadata.items()}
    password: Dict[str, Any] = {"state": offer.state, "value": None, "reason": offer.reason}
    if offer.value is not None:
        raw = offer.value.reveal()
        password["value"] = raw.decode("utf-8", "backslashreplace") if show_secrets else "***"
    return {
        "schema": 1,
        "instance_id": observation.instance_id,
        "hostname": observation.hostname,
        "domain": observation.domain,
        "metadata": metadata,
        "ssh_keys": list(observation.ssh_keys),
        "password": password,
        "user_data": user_data_json(observation),
        "network": observation.network,
        "provenance": dict(observation.provenance),
        "places": [place_json(place) for place in observation.places],
        "refusals": refusals_json(observation),
    }


def _shown(key: str, value: str, show_secrets: bool) -> str:
    """A value as it is shown: a secret of the protocol's where asked for, user-data's variables to root."""
    shown = show_secrets or (not is_secret_key(key) and (key in WELL_KNOWN_KEYS or os.geteuid() == 0))
    return value if shown else "***"


def as_text(observation: "Observation", console: Console, *, show_secrets: bool = False) -> str:
    """What was read as text: values, metadata and places."""
    came = observation.provenance
    head: List[Tuple[str, str]] = [
        ("instance", _with(observation.instance_id, came.get("instance_id"))),
        ("hostname", _with(observation.hostname, came.get("hostname"))),
        (
            "ssh keys",
            _with(str(len(observation.ssh_keys)) if observation.ssh_keys else None, came.get("ssh_keys")),
        ),
    ]
    offer = observation.password
    if offer.value is not None:
        shown = offer.value.reveal().decode("utf-8", "backslashreplace") if show_secrets else "***"
        head.append(("password", _with(f"offered: {shown}", came.get("password"))))
    else:
        head.append(("password", f"{offer.state}: {offer.reason}" if offer.reason else offer.state))
    data = observation.user_data
    kind = f"{data.size} bytes, {data.kind}" if data else None
    head.append(("user-data", _with(kind, came.get("user_data"))))
    lines = console.pairs(head, indent=0)
    if observation.ssh_keys:
        lines += ["", console.paint("ssh keys", "head")]
        lines += [f"  {shorten(key, console.width - 2)}" for key in observation.ssh_keys]
    rest = [(key, value) for key, value in observation.metadata.items() if key not in SHOWN_APART]
    if rest:
        lines += ["", console.paint("metadata", "head")]
        told = [(key, _shown(key, value, show_secrets)) for key, value in rest]
        lines += console.pairs([(shorten(key, 30), shorten(value, 300) or '""') for key, value in told])
    if observation.network:
        lines += ["", console.paint("network", "head")]
        lines += console.wrap(json.dumps(observation.network), 2)
    lines += ["", *places(observation, console)]
    return "\n".join(lines) + "\n"


def places(observation: "Observation", console: Console) -> List[str]:
    """Where it was looked, and what was not believed."""
    lines = [console.paint("looked at", "head")]
    for place in observation.places:
        lines += console.wrap(f"{place.place}: {place.outcome}", 4, "  ")
        before = lines[-1][: -len(place.outcome)]
        lines[-1] = before + console.paint(place.outcome, place.outcome)
        detail = f"{place.why}; {place.detail}" if place.detail else place.why
        lines += console.wrap(detail, 6)
    if observation.refusals:
        lines += ["", console.paint("not believed", "head")]
        for refusal in observation.refusals:
            lines += console.wrap(f"{refusal.datum} ({refusal.place}): {refusal.reason}", 4, "  ")
    return lines


def _with(value: Any, place: Any) -> str:
    if value is None:
        return "none given"
    return f"{value}  ({place})" if place else str(value)


def _is_ours(directory: int) -> bool:
    """Whether an earlier save wrote there, by the shape of its fetch.json."""
    from csagent.system.files import open_regular, read_all

    try:
        descriptor = open_regular(directory, "fetch.json")
        try:
            document = json.loads(read_all(descriptor, SAVED_LIMIT))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"schema", "provenance", "places"} <= set(document)


def _file_name(key: str) -> str:
    """The file for a metadata key: none for two, also where a long name is cut."""
    from urllib.parse import quote

    name = f"metadata.{quote(key, safe=' ')}"
    if len(name) <= NAME_LIMIT:
        return name
    import hashlib

    end = "-" + hashlib.sha256(key.encode()).hexdigest()[:16]
    return name[: NAME_LIMIT - len(end)] + end


def save(observation: "Observation", directory: str, *, show_secrets: bool = False) -> List[str]:
    """Write what was read below a directory, all files 0600; the names written.

    Files of an earlier save that are no longer true are removed. The password is a secret that is shown,
    or it is not written.

    Raises:
        ApplyError: it cannot be written there, or there are files that no earlier save has written.
    """
    from csagent.system.files import replace_at

    files: Dict[str, bytes] = {
        "fetch.json": json.dumps(as_json(observation, show_secrets=show_secrets), indent=1).encode() + b"\n",
        "ssh_keys": "".join(f"{key}\n" for key in observation.ssh_keys).encode(),
    }
    if observation.user_data is not None:
        files["user-data"] = observation.user_data.content.reveal()
    if observation.password.value is not None and show_secrets:
        files["password"] = observation.password.value.reveal()
    for key, value in observation.metadata.items():
        if show_secrets or not is_secret_key(key):
            files[_file_name(key)] = value.encode()
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            there = os.listdir(descriptor)
            if there and not _is_ours(descriptor):
                raise ApplyError(
                    f"--save {directory}: it has files that no earlier --save wrote: name an empty one"
                )
            for name in set(there) - set(files):
                if name in ("password", "user-data", "ssh_keys") or name.startswith("metadata."):
                    os.unlink(name, dir_fd=descriptor)
            for name, content in files.items():
                replace_at(descriptor, name, content, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ApplyError(f"--save {directory}: {error.strerror}") from None
    return sorted(files)
