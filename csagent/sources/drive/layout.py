"""The names on a config drive, in all the spellings that ISO makers and mounts give them.

Pure. A listing of (path, length) goes in, and out comes which file is what. CloudStack's names are
in field/cloudstack#6.1 and #6.2; the spellings were measured with genisoimage 1.1.11 and
xorriso 1.5.4:

- Rock Ridge and Joliet carry the exact names;
- the plain ISO 9660 tree turns ``-`` into ``_``, adds ``;1``, and ``.`` where there is no extension;
- without ``-l`` it also cuts to 8.3 upper case (``CLOUDSTA/METADATA/LOCAL_HO.TXT;1``).
"""

from __future__ import annotations

import re
from typing import Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from csagent import validation
from csagent.errors import Malformed
from csagent.model import NOTHING

FILES_LIMIT = 2000
FILE_LIMIT = 4 << 20
TOTAL_LIMIT = 16 << 20
IMAGE_LIMIT = 64 << 20  # CloudStack itself makes none larger (field/cloudstack#6.1)
DEPTH_LIMIT = 8

Path = Tuple[str, ...]

METADATA = "cloudstack/metadata/"
USER_DATA = "cloudstack/userdata/user_data.txt"
PASSWORD = "cloudstack/password/vm_password.txt"
CHECKSUM = "cloudstack/password/vm-password-md5checksum.txt"
META_DATA = "openstack/meta_data.json"
NETWORK_DATA = "openstack/network_data.json"
VENDOR_DATA = "openstack/vendor_data.json"
OPENSTACK_USER_DATA = "openstack/user_data"

WELL_KNOWN = validation.WELL_KNOWN_KEYS

_PASSWORD_FILES = {"vm-password": PASSWORD, "vm-password-md5checksum": CHECKSUM}
_USER_DATA_FILES = {"user-data": USER_DATA}
_OPENSTACK_FILES = {
    "meta-data.json": META_DATA,
    "network-data.json": NETWORK_DATA,
    "vendor-data.json": VENDOR_DATA,
    "user-data": OPENSTACK_USER_DATA,
}
_TOP = {
    "cloudstack": "cloudstack",
    "openstack": "openstack",
    "cloudsta": "cloudstack",
    "openstac": "openstack",
}
AMBIGUOUS = "?"  # before a name: an 8.3 form that more than one of our names has
_AREAS = ("metadata", "userdata", "password")
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)


class ListedFile(NamedTuple):
    """One thing in a listing. `length` is in bytes, 0 for a directory."""

    path: Path
    length: int
    directory: bool = False


class Contents(NamedTuple):
    """What was read of a drive, by the names of this module (`METADATA` + key for metadata).

    `present` also names what was not read on purpose; `problems` maps what could not be read to why.
    """

    files: Mapping[str, bytes] = NOTHING  # one of them is a password
    present: FrozenSet[str] = frozenset()
    problems: Mapping[str, str] = NOTHING
    cloudstack: bool = False  # there is a cloudstack/ directory
    empty: bool = True  # there is nothing at all
    note: str = ""

    def __repr__(self) -> str:
        return f"Contents({len(self.files)} files)"


class Selection(NamedTuple):
    """Which file is what: our name to its path and length, in the order of reading."""

    files: Dict[str, ListedFile]
    problems: Dict[str, str]
    cloudstack: bool


class Budget:
    """How much may still be read: 4 MiB a file, 16 MiB in all."""

    def __init__(self) -> None:
        self._left = TOTAL_LIMIT

    def refuses(self, length: int) -> Optional[str]:
        """Account for a file of `length` bytes before it is read; the reason where it is too much."""
        if not 0 <= length <= FILE_LIMIT:
            return f"{length} bytes, more than the {FILE_LIMIT >> 20} MiB that a file may have"
        if length > self._left:
            return f"more than {TOTAL_LIMIT >> 20} MiB on the drive"
        self._left -= length
        return None


def fold(name: str) -> str:
    """A name with everything folded away that ISO makers change: case, ``-``/``_``, ``;1``, a last dot."""
    name = re.sub(r";[0-9]{1,5}\Z", "", name)
    return name[:-1].casefold().replace("_", "-") if name.endswith(".") else name.casefold().replace("_", "-")


def stem(name: str) -> str:
    """A metadata file's key in the spelling of the drive: without ``;1``, last dot and ``.txt``."""
    name = re.sub(r";[0-9]{1,5}\Z", "", name)
    name = name[:-1] if name.endswith(".") else name
    return name[:-4] if name[-4:].casefold() == ".txt" and len(name) > 4 else name


def descend(path: Path) -> bool:
    """Whether a directory can hold anything that we want."""
    top = _TOP.get(fold(path[0]))
    if top is None or len(path) > 2:
        return False
    if len(path) == 1:
        return True
    name = fold(path[1])
    if top == "cloudstack":
        return name in _AREAS
    return name == "latest" or _VERSION.match(name) is not None


def check_count(count: int) -> None:
    """Raise where a listing is longer than any drive of CloudStack's.

    Raises:
        Malformed: more than 2,000 files.
    """
    if count > FILES_LIMIT:
        raise Malformed(f"more than {FILES_LIMIT} files, not a config drive of CloudStack's")


def gather(listing: Sequence[ListedFile], content: Callable[[ListedFile], bytes], *, empty: bool) -> Contents:
    """Read the files that a listing shows to be ours, within the budget; what fails is a problem of its own.

    Args:
        listing: the directories of `descend`, and what stands in them.
        content: gives a file's bytes, or raises anything.
        empty: whether the drive has nothing at all.
    """
    chosen = select(listing)
    files: Dict[str, bytes] = {}
    problems = dict(chosen.problems)
    budget = Budget()
    for name, entry in chosen.files.items():
        problem = budget.refuses(entry.length)
        if problem is None:
            try:
                files[name] = content(entry)
                if len(files[name]) != entry.length:
                    problem = f"cut short: {len(files.pop(name))} of {entry.length} bytes"
            except Malformed as error:
                problem = str(error)
            except OSError as error:
                problem = f"cannot be read ({error.strerror or type(error).__name__})"
            except Exception as error:
                problem = f"cannot be read ({type(error).__name__})"
        if problem is not None:
            problems[name] = problem
    present = frozenset(chosen.files) | frozenset(problems)
    return Contents(files, present, problems, chosen.cloudstack, empty)


def select(listing: Iterable[ListedFile]) -> Selection:
    """Decide which files to read, and what they are, from a listing of the directories of `descend`."""
    entries = sorted(listing)
    tops = {_TOP.get(fold(entry.path[0])) for entry in entries if entry.directory}
    version = _version(entries)
    found: Dict[str, ListedFile] = {}
    problems: Dict[str, str] = {}
    for entry in entries:
        if len(entry.path) != 3:
            continue
        top, area = _TOP.get(fold(entry.path[0])), fold(entry.path[1])
        if top is None or (top == "openstack" and entry.path[1] != version):
            continue
        name = _name(top, area, entry.path, entries)
        if name is None:
            continue
        if name.startswith(AMBIGUOUS):
            problems[name[1:]] = "there under an 8.3 name, which can be more than one file"
            continue
        if entry.directory:
            if not name.startswith(METADATA) or name[len(METADATA) :] in WELL_KNOWN:
                problems[name] = "a directory, where a file should be"
            continue
        if name in found and not _better(entry, found[name], name):
            continue
        found[name] = entry
    # What matters most comes first, so that the budget is not eaten by user-data or custom keys.
    order = {PASSWORD: 0, CHECKSUM: 1, META_DATA: 3, NETWORK_DATA: 4, USER_DATA: 6, OPENSTACK_USER_DATA: 7}
    order[VENDOR_DATA] = 8
    known = {METADATA + key for key in WELL_KNOWN}
    chosen = dict(sorted(found.items(), key=lambda item: order.get(item[0], 2 if item[0] in known else 5)))
    return Selection(chosen, problems, "cloudstack" in tops)


def _version(entries: List[ListedFile]) -> Optional[str]:
    """The directory below openstack/ to read: latest, else the newest dated one."""
    names = {
        entry.path[1]
        for entry in entries
        if entry.directory and len(entry.path) == 2 and _TOP.get(fold(entry.path[0])) == "openstack"
    }
    latest = sorted(name for name in names if fold(name) == "latest")
    if latest:
        return latest[-1]
    dated = sorted((fold(name), name) for name in names if _VERSION.match(fold(name)))
    return dated[-1][1] if dated else None


def _better(entry: ListedFile, other: ListedFile, name: str) -> bool:
    """Of two spellings of one name, the one that CloudStack writes wins, else the first."""
    wanted = name.rsplit("/", 1)[1]
    wanted = wanted + ".txt" if name.startswith(METADATA) else wanted
    return entry.path[2] == wanted and other.path[2] != wanted


def _name(top: str, area: str, path: Path, entries: List[ListedFile]) -> Optional[str]:
    short = fold(path[0]) in ("cloudsta", "openstac")
    folded = fold(path[2])
    if top == "openstack":
        if short:
            return _expand(folded, _OPENSTACK_FILES)
        return _OPENSTACK_FILES.get(folded) or _OPENSTACK_FILES.get(folded + ".json")
    key = folded[:-4] if folded.endswith(".txt") else folded
    if area == "metadata":
        if key in WELL_KNOWN:
            return METADATA + key
        if short and len(key) >= 8:  # cut, so that a key of the user's would have the wrong name
            return _expand(key, {known: METADATA + known for known in WELL_KNOWN})
        return METADATA + stem(path[2])
    if area == "userdata":
        return _expand(key, _USER_DATA_FILES) if short else _USER_DATA_FILES.get(key)
    if area != "password":
        return None
    if not short:
        return _PASSWORD_FILES.get(key)
    siblings = [one for one in entries if not one.directory and one.path[:2] == path[:2]]
    if key[:7] != "vm-pass":
        return None
    # The checksum never comes alone; of two cut names, nobody can say which is which.
    return PASSWORD if len(siblings) == 1 else AMBIGUOUS + PASSWORD


def _expand(cut: str, targets: Mapping[str, str]) -> Optional[str]:
    """Find the one target whose 8.3 form is `cut`; several: the first, marked as ambiguous."""

    def shortened(name: str) -> str:
        base, _, extension = name.partition(".")
        return f"{base[:8]}.{extension[:3]}" if extension else base[:8]

    fitting = [targets[name] for name in targets if cut in (name, shortened(name))]
    if not fitting:
        return None
    return fitting[0] if len(fitting) == 1 else AMBIGUOUS + fitting[0]
