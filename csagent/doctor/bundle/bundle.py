"""`csagent doctor --bundle FILE`: a support archive, in the layout that `csagent --root UNPACKED` replays.

Raw files (`raw`), under their own paths, only of what must be parsed again elsewhere: leases, NICs, routes,
who configures each NIC (`network`), name servers, DMI, labels of drives; csagent's settings, status.json and
journal; the clock and the output of the commands as `recorded.json` lists it. Of all else what doctor has
found, as ``_doctor/report.json`` and ``_doctor/report.txt``. Nothing is passed through: a raw file is written
anew from what was parsed, a lease goes through `leases`, and every text goes through `words`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Mapping, NamedTuple, Tuple

from csagent import __version__
from csagent.doctor.bundle import raw
from csagent.doctor.bundle.archive import Member, check, pack, put
from csagent.doctor.bundle.redaction import Words, name_set
from csagent.doctor.finding import Finding
from csagent.errors import JailError, ProbeError
from csagent.model import Place
from csagent.settings import MAIN_FILE, TABLE
from csagent.state.status_files import STATUS

if TYPE_CHECKING:
    from csagent.doctor.engine import Examined

__all__ = ["Summary", "check", "write"]

HOSTNAME = "/etc/hostname"
LEFT_OUT = "/_doctor/left-out.txt"
NEVER = """\
Never in an archive: passwords and their hashes, keys, user-data, csagent's memory of passwords, and the
content of other files than those that lie here. A word that csagent does not know reads "redacted", in a
lease "?".
"""
# The members of status.json at any depth.
STATUS_KEYS = name_set(
    "schema version instance_id source_found started finished seconds exit_code note data places refusals "
    "hostname ssh_keys password user_data network state reason source wrong applied_at failures "
    "acknowledged place why outcome detail datum nics mac interface"
)
_LABEL = re.compile(r"[A-Za-z0-9_.+ -]{1,32}")


class Summary(NamedTuple):
    """What was written: the file, its size in bytes, how many files it holds, and what is not among them."""

    destination: str
    size: int
    files: int
    left_out: Tuple[Tuple[str, str], ...]

    def line(self) -> str:
        """One line for the operator."""
        count = len(self.left_out)
        some = "1 thing" if count == 1 else f"{count} things"
        missing = f" {some} could not be put in: see {LEFT_OUT[1:]}." if count else ""
        return (
            f"wrote {self.destination} ({max(1, self.size // 1024)} KiB, {self.files} files): this report, "
            "leases, network, settings, the last pass and csagent's journal; no passwords, hashes, keys or "
            f"user-data.{missing} Look before you send it: tar -tzf {self.destination}"
        )


def write(
    examined: "Examined", destination: str, documents: "Callable[[Examined], Mapping[str, bytes]]"
) -> Summary:
    """Make the archive.

    Args:
        examined: what doctor has found, and from what.
        destination: a file that is not there yet.
        documents: the report by path, of findings in which every word may leave the machine.

    Raises:
        UsageError: the file is there already.
        CsagentError: it cannot be written.
    """
    check(destination)
    system, now = examined.situation.system, examined.situation.system.clock.now()
    words = known_words(examined)
    try:
        files = raw.gather(system, examined.situation.settings.drive_labels, words)
    except JailError as error:
        recorded = json.dumps({"now": now, "commands": {}}).encode() + b"\n"
        files = raw.Raw((Member("/recorded.json", recorded),), (("everything else", str(error)),))
    members = [*files.members, *_own(examined, words)]
    report = documents(redacted(examined, words))
    members += [Member(path, content) for path, content in report.items()]
    text = NEVER + "\n" + "".join(f"{words.kept(path)}: {words.kept(why)}\n" for path, why in files.left_out)
    members.append(Member(LEFT_OUT, text.encode()))
    content = pack([one if one.mtime else one._replace(mtime=now) for one in members], now)
    put(destination, content)
    return Summary(destination, len(content), len(members), files.left_out)


def known_words(examined: "Examined") -> Words:
    """csagent's own, and the names that the archive holds anyway."""
    situation = examined.situation
    found, settings = situation.found, situation.settings
    names = [settings.user, _hostname(examined), __version__]
    names += [label for label in settings.drive_labels if _LABEL.fullmatch(label)]
    names += [value for _path, value in raw.dmi(found.platform)]
    names += [name for nic in raw.named(found.nics) for name in (nic.name, nic.mac) if name]
    names += [lease.domain_name for lease in found.leases if lease.domain_name]
    names += [drive.device for drive in found.drives]
    for instance in (situation.seen.instance_id, (situation.status or {}).get("instance_id")):
        names += _instance(instance)
    return Words(names, situation.system.tree.root)


def redacted(examined: "Examined", words: Words) -> "Examined":
    """The same findings and places, of whose texts every word may leave the machine."""
    seen, record = examined.situation.seen, examined.situation.record
    places = tuple(Place(*words.all_kept(place)) for place in seen.places)
    instance = words.kept(seen.instance_id) if seen.instance_id else None
    kept = seen._replace(places=places, instance_id=instance, password=words.kept(seen.password))
    if record is not None:
        record = record._replace(version=words.kept(record.version))
    return replace(
        examined,
        situation=replace(examined.situation, seen=kept, record=record),
        findings=tuple(Finding(**words.all_kept(one.as_plain())) for one in examined.findings),
        recorded=tuple(words.all_kept(examined.recorded)),
    )


def _own(examined: "Examined", words: Words) -> Iterator[Member]:
    """csagent's settings and last pass, and the machine's name."""
    situation = examined.situation
    lines = list(_settings(examined))
    if lines:
        yield Member(MAIN_FILE, "".join(lines).encode())
    if situation.status is not None:
        document = words.all_kept(_members(situation.status))
        yield Member(STATUS, json.dumps(document, indent=1).encode() + b"\n")
    elif situation.status_problem:
        yield Member(STATUS, b"it could not be read\n")
    name = _hostname(examined)
    if name:
        yield Member(HOSTNAME, f"{name}\n".encode())


def _settings(examined: "Examined") -> Iterator[str]:
    """Those that are not the defaults, of all files together; JSON's values are YAML's too."""
    settings = examined.situation.settings
    for one in TABLE:
        value = getattr(settings, one.name)
        if isinstance(value, tuple):
            value = tuple(item for item in value if _LABEL.fullmatch(item))
        if value not in (one.default, ()):
            yield f"{one.name}: {json.dumps(value)}\n"


def _members(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _members(one) for key, one in value.items() if key in STATUS_KEYS}
    return [_members(one) for one in value] if isinstance(value, list) else value


def _hostname(examined: "Examined") -> str:
    from csagent.validation import hostname

    text = examined.situation.system.tree.read_text(HOSTNAME, 256) or ""
    try:
        return hostname(text.strip())
    except ProbeError:
        return ""


def _instance(value: object) -> List[str]:
    from csagent.validation import instance_id

    try:
        return [instance_id(value)] if isinstance(value, str) else []
    except ProbeError:
        return []
