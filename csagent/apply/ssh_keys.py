"""Write our block into an account's authorized_keys, as that account, following no symlink of its making.

The home directory is opened with our rights; everything below it is done by a child that has become the
owner, relative to directory descriptors. Modes are 0700 and 0600, as sshd's StrictModes wants, and as it
does we believe no directory and no file that belongs to a third party: written anew, it would be believed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Tuple

from csagent.apply.authorized_keys import has_cloud_inits, merge, with_lines, with_standing
from csagent.errors import ApplyError, JailError
from csagent.sandbox import jail
from csagent.system.accounts import Account
from csagent.system.files import change_at, open_regular, read_all, replace_at
from csagent.system.selinux import relabel

if TYPE_CHECKING:
    from csagent.system.seams import System

DIRECTORY = ".ssh"
FILE = "authorized_keys"
SIZE_LIMIT = 1 << 20
TIMEOUT = 20.0
LIMITS = jail.WRITER._replace(answer=8 * SIZE_LIMIT)


def path(account: Account) -> str:
    """The file, in the guest's terms."""
    return f"{account.home.rstrip('/')}/{DIRECTORY}/{FILE}"


def current(system: "System", account: Account) -> Optional[str]:
    """The text of the file; None where there is none.

    Raises:
        ApplyError: it cannot be read, or is nothing that `write_keys` would read.
    """
    return _text(system, account, missing=True)


def _text(system: "System", account: Account, *, missing: bool) -> Optional[str]:
    text = _as_owner(system, account, lambda home: {"text": _look(home)}, missing=missing)["text"]
    return text if isinstance(text, str) else None


def touched(system: "System", account: Account, keys: Sequence[str]) -> bool:
    """Whether cloud-init's lines for keys of ours stand in the file; False where it cannot be read."""
    try:
        return has_cloud_inits(current(system, account) or "", keys)
    except ApplyError:
        return False


def write_keys(
    system: "System",
    account: Account,
    keys: Sequence[str],
    previous: Sequence[str] = (),
    adopt: bool = False,
    *,
    only_add: bool = False,
) -> bool:
    """Make `keys` our lines in the file.

    Args:
        adopt: what cloud-init wrote of these keys and of the previous ones is ours too.
        only_add: every line that stands as ours stays.

    Returns:
        Whether other lines than `keys` stand as ours now. The owner may have put them there: they are told
        to nobody, lest they come into another account's file.

    Raises:
        ApplyError: it could not be written; the file is as it was.
    """

    def work(home: int) -> Dict[str, Any]:
        ours: Sequence[str] = keys

        def change(text: str) -> str:
            nonlocal ours
            if only_add:
                ours = with_standing(text, keys)
            return merge(text, ours, previous, adopt)

        _edit(home, change)
        return {"beside": set(ours) != set(keys)}

    answer = _as_owner(system, account, work, make=True)
    relabel(system, f"{account.home.rstrip('/')}/{DIRECTORY}")
    return answer.get("beside") is True


def shares_home(system: "System", account: Account, other: Account) -> bool:
    """Whether two accounts have one home directory, by whatever path, and so one file of keys.

    Raises:
        ApplyError: one of them cannot be looked at.
    """

    def work(home: int) -> Dict[str, Any]:
        status = os.fstat(home) if home >= 0 else None
        return {"home": None if status is None else [status.st_dev, status.st_ino]}

    first, second = (_as_owner(system, one, work, missing=True).get("home") for one in (account, other))
    return first is not None and first == second


def add_lines(system: "System", account: Account, keys: Sequence[str], options: str = "") -> None:
    """Add the keys of user-data to the file, outside of our block.

    Raises:
        ApplyError: it could not be written; the file is as it was.
    """

    def work(home: int) -> Dict[str, Any]:
        _edit(home, lambda text: with_lines(text, keys, options))
        return {}

    _as_owner(system, account, work, make=True)
    relabel(system, f"{account.home.rstrip('/')}/{DIRECTORY}")


def clear(system: "System", account: Account) -> bool:
    """Take every line out of the file, the owner's too; False where there were none.

    Raises:
        ApplyError: it could not be written; the file is as it was.
    """
    answer = _as_owner(system, account, lambda home: {"changed": _clear(home)})
    relabel(system, f"{account.home.rstrip('/')}/{DIRECTORY}")
    return bool(answer["changed"])


def _as_owner(
    system: "System",
    account: Account,
    work: Callable[[int], Dict[str, Any]],
    *,
    missing: bool = False,
    make: bool = False,
) -> Dict[str, Any]:
    """What `work` makes of the open home directory, in a child that has become its owner.

    The child also opens it: a dead network file system holds up nobody else. `missing`: where there is no
    home, `work` is given -1. `make`: what the owner cannot make there is made.
    """
    shown = system.tree.shown(path(account))
    identity = jail.Identity(account.uid, account.gid, account.groups) if os.geteuid() == 0 else None

    def inside(home: int, _say: jail.Send) -> Any:
        try:
            return {"problem": None, **work(home)}
        except OSError as error:
            return {"problem": _problem(error)}

    try:
        answer = jail.run(
            jail.Job(
                shown, system, lambda: _open_home(system, account, missing, make), inside, LIMITS, identity
            ),
            TIMEOUT,
        )
    except JailError as error:
        raise ApplyError(str(error)) from None
    if not isinstance(answer, dict) or answer.get("problem") is not None:
        problem = answer.get("problem") if isinstance(answer, dict) else "the child said nothing"
        raise ApplyError(f"{shown}: {problem}")
    return answer


def _open_home(system: "System", account: Account, missing: bool, make: bool) -> int:
    if not account.home.startswith("/"):
        raise ApplyError(f"{account.name} has no home directory: its keys have no place")
    shown = system.tree.shown(account.home)
    try:
        home = system.tree.open(account.home, os.O_RDONLY | os.O_DIRECTORY)
        if make and _is_roots(system, home, account):
            _make_directory(home, account)
        return home
    except OSError as error:
        if missing and error.errno == errno.ENOENT:
            return -1
        raise ApplyError(f"the home directory {shown} of {account.name}: {error.strerror}") from None


def _is_roots(system: "System", home: int, account: Account) -> bool:
    """Whether an open home is root's, where the account can go but make nothing, and root's word for it.

    A home becomes root's when a file is written there before the account is made, as user-data may ask for
    (field/user-data#U50), and that of a service, such as /var/www, is root's anyway. Nobody else may write
    there, so nobody can have put something else in its place; nor has anybody else's link led there.
    """
    status = os.fstat(home)
    if os.geteuid() != 0 or status.st_uid != 0 or account.uid == 0 or status.st_mode & 0o022:
        return False
    group = status.st_gid in (account.gid, *account.groups)
    if not status.st_mode & (0o010 if group else 0o001):
        return False
    try:
        directory, _name = system.tree.resolve_to_write(f"{account.home}/{DIRECTORY}", follow=False)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(directory), status)
    finally:
        os.close(directory)


def _make_directory(home: int, account: Account) -> None:
    """Make the directory for keys in a home that is root's, and give it to the account."""
    try:
        os.mkdir(DIRECTORY, 0o700, dir_fd=home)
    except FileExistsError:
        pass
    try:
        directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=home)
    except OSError:
        return  # the owner will say what it is
    try:
        if os.fstat(directory).st_uid == 0:
            os.fchown(directory, account.uid, account.gid)
    finally:
        os.close(directory)


def _look(home: int) -> Optional[str]:
    if home < 0:
        return None
    try:
        directory = _open_directory(home)
    except FileNotFoundError:
        return None
    try:
        content = _read(directory)
        return None if content is None else content.decode("utf-8", "surrogateescape")
    finally:
        os.close(directory)


def _edit(home: int, change: Callable[[str], str]) -> None:
    os.umask(0o077)
    _belongs(home, "the home directory")
    try:
        os.mkdir(DIRECTORY, 0o700, dir_fd=home)
    except FileExistsError:
        pass
    os.fsync(home)
    directory = _open_directory(home)
    try:
        if stat.S_IMODE(os.fstat(directory).st_mode) != 0o700 and not _has_safe_list(directory):
            os.fchmod(directory, 0o700)

        def changed(content: bytes) -> bytes:
            text = content.decode("utf-8", "surrogateescape")
            return change(text).encode("utf-8", "surrogateescape")

        change_at(directory, FILE, changed, 0o600, limit=SIZE_LIMIT, keep=_keeps_its_mode(directory))
    finally:
        os.close(directory)


def _keeps_its_mode(directory: int) -> bool:
    """Whether the file is ours, with an access list that lets nobody else write; any other becomes 0600."""
    descriptor = _open_file(directory)
    if descriptor is None:
        return False
    try:
        return os.fstat(descriptor).st_uid == os.geteuid() and _has_safe_list(descriptor)
    finally:
        os.close(descriptor)


def _has_safe_list(descriptor: int) -> bool:
    """Whether an access list, whose mask the group's mode is, stands there and lets nobody write."""
    try:
        listed = "system.posix_acl_access" in os.listxattr(descriptor)
    except OSError:
        return False
    return listed and not os.fstat(descriptor).st_mode & 0o022


def _clear(home: int) -> bool:
    directory = _open_directory(home)
    try:
        return bool(_read(directory)) and replace_at(directory, FILE, b"", 0o600)
    finally:
        os.close(directory)


def _open_directory(home: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory = os.open(DIRECTORY, flags, dir_fd=home)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(
                error.errno, f"{DIRECTORY} is not a directory of its own; links are not followed"
            ) from None
        raise
    try:
        _belongs(directory, DIRECTORY)
    except OSError:
        os.close(directory)
        raise
    return directory


def _open_file(directory: int) -> Optional[int]:
    """The file, if sshd would believe whose it is; None where there is none."""
    try:
        descriptor = open_regular(directory, FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(error.errno, "it is not a regular file; links are not followed") from None
        raise
    try:
        _belongs(descriptor, FILE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read(directory: int) -> Optional[bytes]:
    descriptor = _open_file(directory)
    if descriptor is None:
        return None
    try:
        content = read_all(descriptor, SIZE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(content) > SIZE_LIMIT:
        raise OSError(errno.EFBIG, f"it is larger than {SIZE_LIMIT} bytes: not touched")
    return content


def _belongs(descriptor: int, what: str) -> None:
    """Refuse what is neither ours nor root's, as sshd's StrictModes does."""
    owner = os.fstat(descriptor).st_uid
    if owner not in (0, os.geteuid()):
        raise OSError(errno.EPERM, f"{what} belongs to another user ({owner}), and sshd would not believe it")


HINTS = {
    errno.EACCES: " to its owner, as whom it is written",
    errno.EPERM: ": immutable, or not its owner's",
}


def _problem(error: OSError) -> str:
    text = error.strerror or type(error).__name__
    hint = HINTS.get(error.errno or 0, "") if text == os.strerror(error.errno or 0) else ""
    return f"{text}{hint}"[:160]


def preview(
    system: "System",
    account: Account,
    keys: Sequence[str],
    previous: Sequence[str],
    adopt: bool = False,
    *,
    only_add: bool = False,
) -> Tuple[str, str]:
    """(text now, text afterwards), for `plan`.

    Raises:
        ApplyError: `write_keys` would fail for the same reason; a home that is missing is one.
    """
    now = _text(system, account, missing=False) or ""
    return now, merge(now, with_standing(now, keys) if only_add else keys, previous, adopt)
