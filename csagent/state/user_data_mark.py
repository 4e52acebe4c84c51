"""What a pass and a run of user-data leave for each other.

`/run/csagent/user-data-ready`, of a pass: the copy that is kept is whole and to be run. It appears when the
data are there, which may be long after the boot, and csagent-user-data.path waits for it.

`/var/lib/csagent/user-data/ID/hostname`, of a run: the name that the document has given the machine, which no
later pass takes away (field/user-data#U78).
"""

from __future__ import annotations

import json
import os

from csagent.state.status_files import READY
from csagent.state.user_data_record import folder_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from csagent.system.seams import System

NAME_LIMIT = 256


def leave(system: "System", sha256: str) -> None:
    """Say which document is to run; "" for none. A /run that cannot be written costs no pass."""
    tree = system.tree
    try:
        if not sha256:
            tree.remove(READY)
            return
        tree.mkdir(os.path.dirname(READY), 0o755, durable=False)
        text = json.dumps({"schema": 1, "sha256": sha256}).encode() + b"\n"
        tree.write(READY, text, 0o644, durable=False)
    except OSError:
        pass


def name_given(system: "System", instance_id: str) -> str:
    """The name that the instance's user-data has given the machine; "" for none."""
    try:
        return system.tree.read(_path(instance_id), NAME_LIMIT).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def give_name(system: "System", instance_id: str, name: str) -> None:
    """Remember it. Raises: OSError."""
    system.tree.write(_path(instance_id), name.encode() + b"\n", 0o600)


def _path(instance_id: str) -> str:
    return f"{folder_of(instance_id)}/hostname"
