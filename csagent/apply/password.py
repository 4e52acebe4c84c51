"""Set a password and verify that it took. Nobody is told anything here: that comes last, elsewhere."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Iterator, List, Tuple

from csagent.apply import libcrypt
from csagent.errors import ApplyError
from csagent.model import Secret
from csagent.system.accounts import FILE_LIMIT, SHADOW, Account, edit_shadow, shadow_hash
from csagent.system.files import in_group

if TYPE_CHECKING:
    from csagent.system.seams import System

CHPASSWD_TIMEOUT = 30.0
READ_LIMIT, SHOWN_LIMIT = 4096, 200  # bytes and characters of its message
ROOM = 64 << 10  # bytes; the accounts' files are written anew beside the old ones
# chpasswd(8) with PAM and without, pam_strerror(3), pam_pwquality(8). {} is the account.
OWN_WORDS = (
    *("chpasswd:", "(user {}) pam_chauthtok() failed, error:", "Authentication token manipulation error"),
    *(
        "(line 1, user {}) password not changed",
        "Authentication token lock busy",
        "BAD PASSWORD: The password",
    ),
    *("cannot lock /etc/passwd; try again later", "cannot lock /etc/shadow; try again later"),
    *("existing lock file /etc/passwd.lock", "existing lock file /etc/shadow.lock", "with an invalid PID"),
    *("line 1: user '{}' does not exist", "error detected, changes ignored", "without a PID"),
    *("file write error: No space left on device", "Read-only file system", "Permission denied"),
)
DAY = 86400


def is_set(system: "System", account: Account, secret: Secret) -> bool:
    """Whether the shadow entry is this password's already: a pass that was killed before it remembered."""
    return libcrypt.matches(secret, shadow_hash(system, account.name)) is True


def set_password(system: "System", account: Account, secret: Secret) -> None:
    """Set it, with the distribution's own `chpasswd` (PAM picks the method), or in a tree's etc/shadow.

    Raises:
        ApplyError: it was not set, or the shadow entry is not this password's afterwards. The message
            never carries the password.
    """
    before = shadow_hash(system, account.name)
    if not system.live:
        made = libcrypt.make_hash(system, secret)
        _edit_shadow(system, account, made)
        if shadow_hash(system, account.name) != made:
            raise ApplyError(f"the shadow entry of {account.name} is not what was written")
        return
    _chpasswd(system, account, secret)
    after = shadow_hash(system, account.name)
    if after == before:
        raise ApplyError(f"the shadow entry of {account.name} did not change: the password was not set")
    if libcrypt.matches(secret, after) is False:
        raise ApplyError(f"the shadow entry of {account.name} changed, but not to the new password")


def _chpasswd(system: "System", account: Account, secret: Secret) -> None:
    line = account.name.encode() + b":" + secret.reveal() + b"\n"
    shadow = system.tree.stat(SHADOW)
    # PAM makes a new file and gives it the old one's group, Debian's shadow.
    with in_group(shadow.st_gid) if shadow is not None else nullcontext():
        done = system.runner.run(["chpasswd"], stdin=line, timeout=CHPASSWD_TIMEOUT)
    if done.code == 0:
        return
    if done.code is None:
        raise ApplyError(f"chpasswd: {done.error.decode('utf-8', 'replace')}")
    ended = f"was killed by signal {-done.code}" if done.code < 0 else f"failed with {done.code}"
    said, words = done.error[:READ_LIMIT], ""
    if len(said) == READ_LIMIT:  # its last line was cut, and could be the beginning of the password
        said = said.rpartition(b"\n")[0]
    if _mentions(said, secret.reveal(), account.name):
        ended += "; its message has the password in it, and is not shown"
    else:
        lines = (line.strip() for line in said.decode("utf-8", "replace").split("\n"))
        words = "; ".join(dict.fromkeys(line for line in lines if line))[:SHOWN_LIMIT]
    told = [one for one in (words, *_of_the_file_system(system)) if one]
    raise ApplyError(f"chpasswd {ended}{': ' if told else ''}{'; '.join(told)}")


def _of_the_file_system(system: "System") -> Iterator[str]:
    """Why nothing can be written to /etc, or to the file.

    PAM says the same of that as of a rule for passwords, and of an account that is not there:
    "Authentication token manipulation error" (chpasswd 4.13, Debian 12).
    """
    directory = os.path.dirname(SHADOW)
    try:
        opened = system.tree.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            known = os.statvfs(opened)
            immutable = _is_immutable(opened)
        finally:
            os.close(opened)
    except OSError:
        return
    if known.f_flag & os.ST_RDONLY:
        yield f"{directory}: {os.strerror(errno.EROFS)}"
    elif known.f_bfree * known.f_frsize < ROOM or (known.f_files and not known.f_ffree):
        yield f"{directory}: {os.strerror(errno.ENOSPC)}"
    elif immutable:
        yield f"{directory}: {os.strerror(errno.EPERM)}"
    else:
        try:
            os.close(system.tree.open(SHADOW, os.O_WRONLY))
        except OSError as error:  # mounted read-only by itself, or immutable, as hardening guides have it
            yield f"{SHADOW}: {error.strerror}"


def _is_immutable(directory: int) -> bool:
    """Whether no file may be made in a directory (chattr +i); the one that is tried has no name."""
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def _mentions(text: bytes, secret: bytes, account: str) -> bool:
    """Whether a message holds the password: as it is, in any case, reversed, quoted, spaced out, or encoded.

    Pieces do not count, and what stands within words that chpasswd and PAM say by themselves does not either:
    a reset password like "Passw0rd!" shares some with "password not changed".
    """
    folded = _folded(text)
    said = [_folded(words.replace("{}", account).encode()) for words in OWN_WORDS]
    own = [span for words in said for span in _spans(folded, words)]
    return any(
        not any(begin <= start and end <= stop for begin, stop in own)
        for form in _forms(secret)
        for start, end in _spans(folded, form)
    )


def _forms(secret: bytes) -> Iterator[bytes]:
    """How a message may spell it, folded."""
    import base64

    yield _folded(secret)
    yield _folded(secret)[::-1]
    for each in (b"%02x", b"%%%02x", b"x%02x", b"%03o"):  # auditd's, a URL's, C's without the backslashes
        yield b"".join(each % one for one in secret)
    for before in range(3):  # how many bytes of something else its first base64 character stands for
        encoded = base64.b64encode(bytes(before) + secret)
        core = encoded[(before * 8 + 5) // 6 : (before + len(secret)) * 8 // 6]
        if len(core) >= 4:
            yield _folded(core)
            yield _folded(core.replace(b"+", b"-").replace(b"/", b"_"))


def _folded(text: bytes) -> bytes:
    """Without blanks and what a shell quotes with, in lower case; as it is where nothing would be left."""
    lower = text.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")
    return bytes(one for one in lower if one not in b" \t\r\n\v\f\0\\'\"") or text


def _spans(text: bytes, part: bytes) -> Iterator[Tuple[int, int]]:
    """Where a part stands in a text, overlapping ones too."""
    start = text.find(part) if part else -1
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + 1)


def _edit_shadow(system: "System", account: Account, value: str) -> None:
    shown = system.tree.shown(SHADOW)

    def change(fields: List[str]) -> None:
        fields[1:3] = value, _today(system)

    try:
        raw = system.tree.read(SHADOW, FILE_LIMIT + 1)
        if len(raw) > FILE_LIMIT:
            raise ApplyError(f"{shown} is larger than {FILE_LIMIT} bytes: not touched")
        text = edit_shadow(raw.decode("utf-8", "surrogateescape"), [account.name], change)
        system.tree.write(SHADOW, text.encode("utf-8", "surrogateescape"), 0o640, keep=True)
    except OSError as error:
        raise ApplyError(f"cannot write {shown}: {error.strerror}") from None


def _today(system: "System") -> str:
    """Days since the epoch for shadow(5). 0 would ask for a new password at the next login: a clock that is
    not set yet gives "", which turns ageing off, as chpasswd itself does."""
    day = int(system.clock.now()) // DAY
    return str(day) if day > 0 else ""
