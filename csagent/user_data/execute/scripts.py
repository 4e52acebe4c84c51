"""Scripts: stored as files of root's, and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Tuple

from csagent.model import Secret

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine


class RunScript(NamedTuple):
    """Store a script below the instance's directory, mode 0700, and run it.

    `by_shell`: it is given to /bin/sh; else it is executed, and its first line says by what. `with_id`: it
    has INSTANCE_ID in its environment. `lines` has, for each line of a script that was made of a list, that
    of the document.
    """

    name: str
    folder: str
    content: Secret
    by_shell: bool = False
    with_id: bool = False
    lines: Tuple[int, ...] = ()

    def carry_out(self, machine: "Machine") -> None:
        """Run it to its end, however long that takes.

        Raises:
            StepFailed: it ended with another status than 0, or could not be run.
        """
        path = machine.store(self.folder, self.name, self.content.reveal())
        words = ["/bin/sh", path] if self.by_shell else [path]
        machine.script(words, with_id=self.with_id)
