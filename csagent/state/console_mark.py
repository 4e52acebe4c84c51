"""The mark that a pass leaves where the console is due a line; csagent-console.path waits for it.

`/run/csagent/console-due` appears at the end of the first pass since the machine was started, and again when
a source is found after all. csagent-console.service renames it to `/run/csagent/console`, and shows what
`csagent status --console` says. In it stands whether that pass was the instance's first: only then are the
host keys shown, once an instance, as cloud-init does.
"""

from __future__ import annotations

import json
import os

from csagent.errors import CsagentError
from csagent.state import status_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from csagent.system.seams import System

DUE = "/run/csagent/console-due"
SHOWN = "/run/csagent/console"


def source_found(system: "System") -> "Optional[bool]":
    """Whether the last pass found a source; None where none has ended since the machine was started."""
    try:
        document = status_files.load(system.tree.root, status_files.STATUS)
    except CsagentError:
        return None
    return None if document is None else document.get("source_found") is True


def leave(system: "System", before: "Optional[bool]", *, found: bool, first: bool) -> None:
    """Leave the mark, where this pass is worth a line. A /run that cannot be written costs no pass.

    Args:
        system: whose /run.
        before: what `source_found` said before the pass.
        found: whether the pass has found a source.
        first: whether nothing had been applied for this instance before.
    """
    if before or before == found:
        return
    try:
        system.tree.mkdir(os.path.dirname(DUE), 0o755, durable=False)
        text = json.dumps({"schema": 1, "host_keys": found and first}).encode() + b"\n"
        system.tree.write(DUE, text, 0o644, durable=False)
    except OSError:
        pass


def shows_host_keys(root: str) -> bool:
    """Whether the line that is shown now is that of the instance's first pass."""
    try:
        document = status_files.load(root, SHOWN)
    except CsagentError:
        return False
    return document is not None and document.get("host_keys") is True
