"""Set a password and verify that it took. Nobody is told anything here: that comes last, elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, List

from csagent.apply import libcrypt
from csagent.errors import ApplyError
from csagent.model import Secret
from csagent.system.accounts import FILE_LIMIT, SHADOW, Account, edit_shadow, shadow_hash
from csagent.system.files import in_group

if TYPE_CHECKING:
    from csagent.system.seams import System

CHPASSWD_TIMEOUT = 30.0
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
    if _mentions(done.error, secret.reveal()):
        raise ApplyError(f"chpasswd failed with {done.code}; its message has the password in it")
    words = "; ".join(done.error.decode("utf-8", "replace").split("\n")).strip("; ")[:200]
    ended = f"was killed by signal {-done.code}" if done.code < 0 else f"failed with {done.code}"
    raise ApplyError(f"chpasswd {ended}{': ' if words else ''}{words}")


def _mentions(text: bytes, secret: bytes) -> bool:
    """Whether a message holds a part of the secret; quoted or cut off it may not be the whole."""
    size = min(len(secret), 4)
    return any(secret[at : at + size] in text for at in range(len(secret) - size + 1))


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
