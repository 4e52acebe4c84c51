"""What a document includes: fetched when it is to run, kept beside its record for the next time.

`#include-once` is fetched once for an instance; `#include` each time, and what was kept serves where it
cannot be had. A tree contacts nobody.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Dict, Optional

from csagent.errors import Distrusted
from csagent.state import user_data_record as records
from csagent.system import trusted_path
from csagent.user_data import reading
from csagent.user_data.message import INCLUDES_DEPTH, UNPACKED_LIMIT, Fetched

if TYPE_CHECKING:
    from csagent.system.seams import System
    from csagent.user_data.plan import Include, Plan
    from csagent.user_data.source import Source

FOLDER = "includes"


def read_all(system: "System", source: "Source") -> "Plan":
    """The plan of a document with all that it includes; what cannot be fetched is a part that is refused."""
    from csagent.user_data import fetch

    found: Dict[str, Fetched] = {}
    document = source.document.reveal()
    for _depth in range(INCLUDES_DEPTH + 1):
        plan = reading.read(system, document, source.facts, found)
        if not plan.includes:
            _forget_others(system, source.folder, found)
            return plan
        asked = []
        for include in plan.includes:
            known = _kept(system, source.folder, include.url) if include.once or not system.live else None
            if known is not None:
                found[include.url] = known
            elif system.live:
                asked.append(include)
            else:
                found[include.url] = Fetched(problem="nothing is fetched for a tree")
        came = fetch.fetch(system, [include.url for include in asked]) if asked else {}
        for include in asked:
            found[include.url] = _taken(system, source.folder, include, came[include.url])
    _forget_others(system, source.folder, found)
    return reading.read(system, document, source.facts, found)


def _forget_others(system: "System", folder: str, found: Dict[str, Fetched]) -> None:
    """What is kept of URLs that nothing includes any more goes: a server may name others at each boot."""
    used = {_path(folder, url) for url in found}
    for name in system.tree.names(f"{folder}/{FOLDER}"):
        if f"{folder}/{FOLDER}/{name}" not in used:
            try:
                system.tree.remove(f"{folder}/{FOLDER}/{name}")
            except OSError:
                continue  # the next run tries again


def read_kept(system: "System", source: "Source") -> "Plan":
    """The plan with what was fetched before; nobody is contacted."""
    found: Dict[str, Fetched] = {}
    plan = reading.read(system, source.document.reveal(), source.facts)
    for _depth in range(INCLUDES_DEPTH):
        more = {one.url: _kept(system, source.folder, one.url) for one in plan.includes}
        new = {url: content for url, content in more.items() if content is not None}
        if not new:
            break
        found.update(new)
        plan = reading.read(system, source.document.reveal(), source.facts, found)
    return plan


def _taken(system: "System", folder: str, include: "Include", came: Fetched) -> Fetched:
    """What is used of what came: the kept copy where nothing did."""
    if came.problem:
        return _kept(system, folder, include.url) or came
    try:
        records.make_folder(system, f"{folder}/{FOLDER}")
        system.tree.write(_path(folder, include.url), came.content, 0o600)
    except OSError:
        pass  # it is used now all the same, and fetched again at the next boot
    return came


def _kept(system: "System", folder: str, url: str) -> Optional[Fetched]:
    try:
        return Fetched(trusted_path.read_own(system, records.STATE, _path(folder, url), UNPACKED_LIMIT))
    except (OSError, Distrusted):
        return None


def _path(folder: str, url: str) -> str:
    return f"{folder}/{FOLDER}/{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()}"
