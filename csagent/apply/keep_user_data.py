"""Keep a private copy of the user-data: root only, beside the memory of the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from csagent.errors import ApplyError
from csagent.model import UserData
from csagent.state import applied, instances

if TYPE_CHECKING:
    from csagent.system.seams import System


def keep(system: "System", instance_id: Optional[str], data: UserData) -> None:
    """Write the bytes as they came, mode 0600.

    Raises:
        ApplyError: it could not be written.
    """
    path = applied.user_data_path(instance_id)
    try:
        instances.prepare(system)
        system.tree.write(path, data.content.reveal(), 0o600)
    except OSError as error:
        raise ApplyError(f"cannot write {system.tree.shown(path)}: {error.strerror}") from None
