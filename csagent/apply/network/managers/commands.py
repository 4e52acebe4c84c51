"""Commands that must succeed, with the reason where one did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.system.seams import System

SHOWN = 160  # characters of what a command said


def must(system: "System", argv: Sequence[str], timeout: float) -> str:
    """Run a command to its end; what it printed.

    Raises:
        ApplyError: it is not installed, failed, or took longer.
    """
    done = system.runner.run(argv, timeout=timeout)
    said = " ".join((done.error or done.output).decode("utf-8", "replace").split())[:SHOWN]
    if done.code == 0:
        return done.output.decode("utf-8", "replace")
    how = "did not end" if done.code is None else f"failed ({done.code})"
    raise ApplyError(f"{' '.join(argv[:3])} {how}{f': {said}' if said else ''}")
