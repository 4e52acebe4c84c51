"""Which document is run, for whom: this instance's own, or one that is given by hand."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Dict, Mapping, NamedTuple, Optional

from csagent.errors import CsagentError, UsageError
from csagent.model import Secret
from csagent.state import user_data_record as records
from csagent.state.status_files import INSTANCE, SIZE_LIMIT, VARIABLES
from csagent.system.files import read_named
from csagent.user_data import surroundings as known
from csagent.user_data.surroundings import NO_INSTANCE, Facts

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

FILE_LIMIT = 64 << 20  # bytes of a file that is read at all
KEPT_METADATA = "metadata.json"
NOT_WHOLE = (
    "this instance's user-data is not run: the copy that is kept is not surely whole ({}); csagent apply "
    "asks for it again, and csagent user-data run --document {} runs it as it is"
)


class Source(NamedTuple):
    """A document, what is known about its instance, and where its record is."""

    document: Secret
    facts: Facts
    folder: str
    by_hand: bool
    name: str  # for a person
    memory_id: str = NO_INSTANCE  # under which passes remember what they have applied

    @property
    def sha256(self) -> str:
        """Which document it is."""
        import hashlib

        return hashlib.sha256(self.document.reveal()).hexdigest()


def given(system: "System", settings: "Settings", document: str, metadata: Optional[str]) -> Source:
    """A document of the command line.

    Raises:
        UsageError: a file cannot be read, or the metadata are none.
    """
    raw = read_named(document, FILE_LIMIT, "--document")
    said: Mapping[str, str] = {}
    if metadata is not None:
        said = known.metadata_of(read_named(metadata, FILE_LIMIT, "--metadata"), f"--metadata {metadata}")
    facts = known.gather(system, settings, said)
    facts = facts._replace(names_machine=bool(said.get("local-hostname")))
    folder = records.folder_of(facts.instance_id, by_hand=True)
    return Source(Secret(raw), facts, folder, True, document)


def own(system: "System", settings: "Settings") -> Optional[Source]:
    """This instance's own document, as the last pass has kept it; None where there is none.

    Raises:
        UsageError: it is there and cannot be read.
        CsagentError: no pass remembers that these bytes came whole; half a script may do what none would.
    """
    from csagent.state import applied

    instance, metadata = _published(system)
    instance = instance or applied.last_instance(system) or NO_INSTANCE
    path = applied.user_data_path(instance)
    try:
        raw = system.tree.read(path, FILE_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "; this needs root" if os.geteuid() != 0 else ""
        raise UsageError(f"{system.tree.shown(path)}: {error.strerror}{hint}") from None
    folder = records.folder_of(instance)
    if metadata is None:
        metadata = _kept(system, folder)
    facts = known.gather(system, settings, {"instance-id": instance, **metadata})
    found = Source(Secret(raw), facts, folder, False, "this instance's user-data", instance)
    memory = applied.load(system, instance)
    if found.sha256 != memory.whole_user_data:
        why = memory.user_data_doubt or memory.note or memory.withheld or "no pass remembers it as whole"
        raise CsagentError(NOT_WHOLE.format(why, shlex.quote(system.tree.shown(path))))
    return found


def keep_metadata(system: "System", source: Source) -> None:
    """For the next boot, at which the document may run before anybody has been asked. Raises: OSError."""
    import json

    records.make_folder(system, source.folder)
    text = json.dumps(dict(source.facts.metadata), indent=1, ensure_ascii=False)
    system.tree.write(f"{source.folder}/{KEPT_METADATA}", text.encode("utf-8", "backslashreplace"), 0o600)


def _published(system: "System") -> "tuple[Optional[str], Optional[Dict[str, str]]]":
    """The instance id and the metadata of the last pass since the machine was started."""
    document = _json(system, INSTANCE)
    if document is None:
        return None, None
    instance, metadata = document.get("memory_id"), document.get("metadata")
    if not isinstance(metadata, dict):
        return None, None
    variables = (_json(system, VARIABLES) or {}).get("metadata")
    both = {**(variables if isinstance(variables, dict) else {}), **metadata}
    return (instance if isinstance(instance, str) and instance else None), _texts(both)


def _kept(system: "System", folder: str) -> Dict[str, str]:
    return _texts(_json(system, f"{folder}/{KEPT_METADATA}") or {})


def _json(system: "System", path: str) -> "Optional[Dict[str, object]]":
    from csagent.system import json_limits

    try:
        document = json_limits.loads(system.tree.read(path, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _texts(values: Mapping[str, object]) -> Dict[str, str]:
    return {key: value for key, value in values.items() if isinstance(value, str)}
