"""Write our block into an account's authorized_keys, as that account, following no symlink of its making.

The home directory is opened with our rights; everything below it is done by a child that has become the
owner, relative to directory descriptors. Modes are 0700 and 0600, as sshd's StrictModes wants.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

from csagent import jail
from csagent.apply.accounts import Account
from csagent.apply.authorized_keys import merge
from csagent.apply.selinux import relabel
from csagent.errors import ApplyError, JailError
from csagent.tree import read_all, replace_at

if TYPE_CHECKING:
    from csagent.system import System

DIRECTORY = ".ssh"
FILE = "authorized_keys"
SIZE_LIMIT = 1 << 20
TIMEOUT = 20.0


def path(account: Account) -> str:
    """The file, in the guest's terms."""
    return f"{account.home.rstrip('/')}/{DIRECTORY}/{FILE}"


def current(system: "System", account: Account) -> Optional[str]:
    """The text of the file; None where there is none or it cannot be read."""
    return system.tree.read_text(path(account), SIZE_LIMIT)


def write_keys(system: "System", account: Account, keys: Sequence[str], previous: Sequence[str] = ()) -> bool:
    """Make `keys` our lines in the file; False where they were so already.

    Raises:
        ApplyError: it could not be written; the file is as it was.
    """
    shown = system.tree.shown(path(account))
    identity = jail.Identity(account.uid, account.gid, account.groups) if os.geteuid() == 0 else None

    def work(home: int, _say: jail.Say) -> Any:
        try:
            return {"changed": _replace(home, keys, previous)}
        except OSError as error:
            return {"problem": _problem(error)}

    try:
        answer = jail.run(
            system, shown, lambda: _open_home(system, account), work, jail.WRITER, identity, TIMEOUT
        )
    except JailError as error:
        raise ApplyError(str(error)) from None
    if not isinstance(answer, dict) or "changed" not in answer:
        problem = answer.get("problem") if isinstance(answer, dict) else None
        raise ApplyError(f"{shown}: {problem or 'the writing child said nothing'}")
    relabel(system, f"{account.home.rstrip('/')}/{DIRECTORY}")
    return bool(answer["changed"])


def _open_home(system: "System", account: Account) -> int:
    shown = system.tree.shown(account.home)
    try:
        return system.tree.open(account.home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ApplyError(f"the home directory {shown} of {account.name}: {error.strerror}") from None


def _replace(home: int, keys: Sequence[str], previous: Sequence[str]) -> bool:
    os.umask(0o077)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    changed = False
    try:
        os.mkdir(DIRECTORY, 0o700, dir_fd=home)
        changed = True
    except FileExistsError:
        pass
    os.fsync(home)
    try:
        directory = os.open(DIRECTORY, flags, dir_fd=home)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(
                error.errno, f"{DIRECTORY} is not a directory of its own; links are not followed"
            ) from None
        raise
    try:
        if stat.S_IMODE(os.fstat(directory).st_mode) != 0o700:
            os.fchmod(directory, 0o700)
            changed = True
        text = _read(directory).decode("utf-8", "surrogateescape")
        new = merge(text, keys, previous).encode("utf-8", "surrogateescape")
        return replace_at(directory, FILE, new, 0o600) or changed
    finally:
        os.close(directory)


def _read(directory: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(FILE, flags, dir_fd=directory)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a symbolic link, which is not followed") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = read_all(descriptor, SIZE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(content) > SIZE_LIMIT:
        raise OSError(errno.EFBIG, f"it is larger than {SIZE_LIMIT} bytes: not touched")
    return content


def _problem(error: OSError) -> str:
    return (error.strerror or type(error).__name__)[:160]


def preview(
    system: "System", account: Account, keys: Sequence[str], previous: Sequence[str]
) -> Tuple[str, str]:
    """(text now, text afterwards), for `plan`."""
    now = current(system, account) or ""
    return now, merge(now, keys, previous)
