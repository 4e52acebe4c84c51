"""What the places said, in a support archive: ``_doctor/seen.json``.

    {"schema": 1, "version": "…", "looked": true, "as_root": true, "tree": false, "source_found": true,
     "instance_id": "…"|null, "password": "offered|none|unknown", "password_given": true, "keys_given": true,
     "key_types": ["ssh-ed25519", "ssh-rsa 2048"], "drives": [{"device", "label", "why"}],
     "places": [{"place", "why", "outcome", "detail", "seconds"}], "open_to_all": ["…"], "problem": ""}

An archive that lacks it (a capture made by hand) is examined with the places of its last pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from csagent import __version__
from csagent.console import safe
from csagent.doctor.context import Seen
from csagent.model import Drive, Place
from csagent.system import json_limits

if TYPE_CHECKING:
    from csagent.system.seams import System

SEEN = "/_doctor/seen.json"
SIZE_LIMIT = 1 << 20
MAX_ENTRIES = 200
TEXT_LIMIT = 500


def as_document(seen: Seen) -> Dict[str, Any]:
    """For the archive."""
    return {
        "schema": 1,
        "version": __version__,
        "looked": seen.looked,
        "as_root": seen.as_root,
        "tree": seen.tree,
        "source_found": seen.source_found,
        "instance_id": seen.instance_id,
        "password": seen.password,
        "password_given": seen.password_given,
        "keys_given": seen.keys_given,
        "key_types": list(seen.key_types),
        "drives": [drive._asdict() for drive in seen.drives],
        "places": [place._asdict() for place in seen.places],
        "open_to_all": list(seen.open_to_all),
        "problem": seen.problem,
    }


def read(system: "System", status: Optional[Dict[str, Any]]) -> Seen:
    """What an unpacked archive says; whoever made it may have written anything, and nobody is contacted."""
    try:
        document = json_limits.loads(system.tree.read(SEEN, SIZE_LIMIT))
    except FileNotFoundError:
        return _of_last_pass(status)
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return Seen(problem="the archive's _doctor/seen.json is damaged", as_root=False)
    return Seen(
        looked=document.get("looked") is not False,
        places=_places(document.get("places")),
        source_found=document.get("source_found") is True,
        instance_id=_text(document.get("instance_id")) or None,
        drives=tuple(
            Drive(_text(one.get("device")), _text(one.get("label")) or None, _text(one.get("why")))
            for one in _entries(document.get("drives"))
        ),
        password=_text(document.get("password")) or "unknown",
        password_given=document.get("password_given") is True,
        keys_given=document.get("keys_given") is True,
        key_types=_texts(document.get("key_types")),
        as_root=document.get("as_root") is True,
        tree=document.get("tree") is True,
        open_to_all=_texts(document.get("open_to_all")),
        problem=_text(document.get("problem")),
    )


def _of_last_pass(status: Optional[Dict[str, Any]]) -> Seen:
    if status is None:
        return Seen(problem="the archive does not say which places answered")
    return Seen(
        looked=True,
        places=_places(status.get("places")),
        source_found=status.get("source_found") is True,
        instance_id=_text(status.get("instance_id")) or None,
    )


def _places(value: Any) -> Tuple[Place, ...]:
    found: List[Place] = []
    for one in _entries(value):
        place, why, outcome, detail = (_text(one.get(name)) for name in ("place", "why", "outcome", "detail"))
        found.append(Place(place, why, outcome, detail, _seconds(one.get("seconds"))))
    return tuple(found)


def _seconds(value: Any) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        return None
    return float(value)


def _entries(value: Any) -> List[Dict[str, Any]]:
    entries = value[:MAX_ENTRIES] if isinstance(value, list) else []
    return [one for one in entries if isinstance(one, dict)]


def _texts(value: Any) -> Tuple[str, ...]:
    entries = value[:MAX_ENTRIES] if isinstance(value, list) else []
    return tuple(_text(one) for one in entries if isinstance(one, str))


def _text(value: Any) -> str:
    return safe(value[:TEXT_LIMIT]).replace("\n", " ") if isinstance(value, str) else ""
