"""What was done with each NIC, durably: `/var/lib/csagent/network/applied.json`, and the change under way.

`pending.json` is written before the first file of a change and removed once its end is known: a pass that
finds one was cut short between the two. Neither holds a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Tuple

from csagent.errors import ApplyError, Distrusted
from csagent.model import NOTHING
from csagent.state.instances import STATE
from csagent.system import json_limits, trusted_path

if TYPE_CHECKING:
    from csagent.system.seams import System

DIRECTORY = STATE + "/network"
APPLIED = DIRECTORY + "/applied.json"
PENDING = DIRECTORY + "/pending.json"
SCHEMA = 1
SIZE_LIMIT = 1 << 20
STATES = ("applied", "unconfirmed", "failed")


class NicRecord(NamedTuple):
    """What became of one NIC the last time that something was done with it.

    `state` is applied, unconfirmed (its gateway did not answer, and none had before) or failed (the former
    state is back). `source` is the digest of what the document said of it. `files` are the fingerprints of
    what was written, `addresses` what it was given.
    """

    state: str
    source: str
    reason: str = ""
    files: Mapping[str, str] = NOTHING
    addresses: Tuple[str, ...] = ()


class NetworkMemory(NamedTuple):
    """All of it. `leased` are NICs that had a lease under the document with the digest `document`."""

    nics: Mapping[str, NicRecord] = NOTHING
    document: str = ""
    leased: Tuple[str, ...] = ()


class Former(NamedTuple):
    """A file as it was before a change; `content` of None: it was not there."""

    path: str
    content: Optional[bytes]
    mode: int = 0o644


class Pending(NamedTuple):
    """A change under way.

    `former` restores what was before, `written` has the fingerprints of what shall be there now. `answered`
    are the gateways that the NIC had before and that answered, by "4" and "6"; `mtu` is what it had. `wanted`
    is what it shall have, as csagent.apply.network.plan writes it.
    """

    mac: str
    interface: str
    manager: str
    since: float = 0.0
    former: Tuple[Former, ...] = ()
    written: Mapping[str, str] = NOTHING
    answered: Mapping[str, str] = NOTHING
    mtu: Optional[int] = None
    source: str = ""
    wanted: Mapping[str, Any] = NOTHING
    addresses: Tuple[str, ...] = ()  # that it had


def load(system: "System") -> NetworkMemory:
    """What is remembered; nothing where that is damaged: then the machine is looked at anew.

    Raises:
        ApplyError: somebody else than root could have written it.
    """
    document = _read(system, APPLIED)
    if document is None:
        return NetworkMemory()
    try:
        return NetworkMemory(
            {_text(mac): _record(one) for mac, one in _mapping(document["nics"]).items()},
            _text(document["document"]),
            tuple(_text(mac) for mac in _list(document["leased"])),
        )
    except (KeyError, ValueError):
        return NetworkMemory()


def save(system: "System", memory: NetworkMemory) -> None:
    """Remember it.

    Raises:
        ApplyError: it cannot be written.
    """
    document = {
        "schema": SCHEMA,
        "document": memory.document,
        "leased": list(memory.leased),
        "nics": {
            mac: {**record._asdict(), "files": dict(record.files), "addresses": list(record.addresses)}
            for mac, record in sorted(memory.nics.items())
        },
    }
    _write(system, APPLIED, document)


def pending(system: "System") -> Optional[Pending]:
    """The change that was cut short; None where there is none, or nothing that can be understood.

    Raises:
        ApplyError: somebody else than root could have written it: what it says to put back is not touched.
    """
    document = _read(system, PENDING)
    if document is None:
        return None
    try:
        mtu, since = document["mtu"], document["since"]
        return Pending(
            _text(document["mac"]),
            _text(document["interface"]),
            _text(document["manager"]),
            float(since) if isinstance(since, (int, float)) else 0.0,
            tuple(_former(one) for one in _list(document["former"])),
            _texts(document["written"]),
            _texts(document["answered"]),
            mtu if isinstance(mtu, int) else None,
            _text(document["source"]),
            _mapping(document["wanted"]),
            tuple(_text(one) for one in _list(document["addresses"])),
        )
    except (KeyError, ValueError, binascii.Error):
        return None


def begin(system: "System", change: Pending) -> None:
    """Write down a change before anything of it is done.

    Raises:
        ApplyError: it cannot be written; nothing may be changed then.
    """
    former = [
        {
            "path": one.path,
            "content": None if one.content is None else base64.b64encode(one.content).decode("ascii"),
            "mode": one.mode,
        }
        for one in change.former
    ]
    document = {**change._asdict(), "schema": SCHEMA, "former": former}
    plain = {name: dict(getattr(change, name)) for name in ("written", "answered", "wanted")}
    _write(system, PENDING, {**document, **plain})


def end(system: "System") -> None:
    """The change has come to its end.

    Raises:
        ApplyError: the record cannot be removed.
    """
    try:
        system.tree.remove(PENDING)
    except FileNotFoundError:
        return  # not even its directory is there
    except OSError as error:
        raise ApplyError(f"cannot remove {system.tree.shown(PENDING)}: {error.strerror}") from None


def _write(system: "System", path: str, document: Mapping[str, Any]) -> None:
    raw = json.dumps(document, indent=1).encode() + b"\n"
    if len(raw) > SIZE_LIMIT:
        raise ApplyError(f"cannot remember in {system.tree.shown(path)}: it could not be read again")
    try:
        system.tree.mkdir(STATE, 0o700)
        system.tree.mkdir(DIRECTORY, 0o700)
        system.tree.write(path, raw, 0o600)
    except OSError as error:
        raise ApplyError(f"cannot remember in {system.tree.shown(path)}: {error.strerror}") from None


def _read(system: "System", path: str) -> Optional[Dict[str, Any]]:
    try:
        document = json_limits.loads(trusted_path.read_own(system, STATE, path, SIZE_LIMIT))
    except Distrusted as error:
        raise ApplyError(str(error)) from None
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _record(value: Any) -> NicRecord:
    said = _mapping(value)
    state = _text(said["state"])
    if state not in STATES:
        raise ValueError("not a state")
    return NicRecord(
        state,
        _text(said["source"]),
        _text(said["reason"]),
        _texts(said["files"]),
        tuple(_text(one) for one in _list(said["addresses"])),
    )


def _former(value: Any) -> Former:
    said = _mapping(value)
    content, mode = said["content"], said["mode"]
    if not isinstance(mode, int):
        raise ValueError("not a mode")
    raw = None if content is None else base64.b64decode(_text(content), validate=True)
    return Former(_text(said["path"]), raw, mode & 0o777)


def _mapping(value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value


def _texts(value: Any) -> Dict[str, str]:
    return {_text(key): _text(one) for key, one in _mapping(value).items()}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
