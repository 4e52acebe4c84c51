"""Time zone and locale, in the files that timedatectl and localectl would write."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from csagent.system.files import lines_of

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

ZONES = "/usr/share/zoneinfo"
LOCALTIME, TIMEZONE = "/etc/localtime", "/etc/timezone"
LOCALE_FILES = {"debian": "/etc/default/locale", "": "/etc/locale.conf", "redhat": "/etc/locale.conf"}
BUILT_IN = ("c", "c.utf-8", "c.utf8", "posix")  # in every C library
ZONE_LIMIT = 1 << 20


class SetTimezone(NamedTuple):
    """The link /etc/localtime, and on Debian the name in /etc/timezone."""

    zone: str
    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        path = f"{ZONES}/{self.zone}"
        tree = machine.system.tree
        status = tree.stat(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            machine.fail(f"there is no time zone {self.zone}: no file {machine.shown(path)}")
        if self.family == "debian":
            machine.write(TIMEZONE, self.zone.encode() + b"\n", 0o644)
        before = tree.stat(LOCALTIME, follow=False)
        try:
            if before is None or stat.S_ISLNK(before.st_mode):
                _link(machine, path)
            else:
                machine.write(LOCALTIME, tree.read(path, ZONE_LIMIT), 0o644)
        except OSError as error:
            machine.fail(f"cannot write {machine.shown(LOCALTIME)}: {error.strerror}")


def _link(machine: "Machine", target: str) -> None:
    """Replace the link as a whole."""
    directory, name = machine.system.tree.resolve(LOCALTIME, follow=False)
    temporary = f".{name}.csagent-new"
    try:
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        os.symlink(target, temporary, dir_fd=directory)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)


class SetLocale(NamedTuple):
    """LANG of the system. One that is not built into the C library is made first, as the system does it."""

    name: str
    path: str
    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        path = self.path or LOCALE_FILES.get(self.family, LOCALE_FILES[""])
        before = machine.system.tree.read_text(path) or ""
        match = re.search(r'^\s*LANG=["\']?([^"\'\n]*)', before, re.MULTILINE)
        if match is not None and match.group(1).lower() == self.name.lower():
            return
        if self.family == "debian" and self.name.lower() not in BUILT_IN:
            machine.command(["locale-gen", self.name])
        if self.family == "debian" and machine.system.live:
            machine.command(["update-locale", f"--locale-file={path}", f"LANG={self.name}"])
            return
        machine.change(path, self._with_name, 0o644)

    def _with_name(self, text: str) -> str:
        lines = [line for line in lines_of(text) if not line.strip().startswith("LANG=")]
        return "\n".join([*lines, f"LANG={self.name}"]) + "\n"
