"""Reads the files that a pass leaves in /run/csagent. `status` and `query` are started often: few imports."""

from __future__ import annotations

import errno
import os
import time

from csagent.errors import CsagentError, Damaged, UsageError
from csagent.system import json_limits

TYPE_CHECKING = False  # status, query and the resident daemon do without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, Mapping, Optional

STATUS = "/run/csagent/status.json"
INSTANCE = "/run/csagent/instance.json"
USER_DATA = "/run/csagent/user-data.json"
READY = "/run/csagent/user-data-ready"
VARIABLES = "/run/csagent/variables.json"  # root's: user-data's own variables, which are no less secret
LOOK_AGAIN = 0.2  # seconds
NEW_ACCOUNT = 60.0  # seconds
OF_THE_ACCOUNT = ("ssh_keys", "password")  # the data that are set for an account
MISSED_ACCOUNT = "there is no account "  # and its name and a colon, as `csagent.system.accounts.find` says it
MISSED_HOME = ": the home directory "  # then path, " of ", account, and why: `csagent.apply.ssh_keys`
SIZE_LIMIT = 16 << 20  # 3 MiB of metadata, and keys twice, with escapes three times as long


def read(root: str, path: str) -> bytes:
    """A file of the system below `root`, inside of which its links are resolved.

    Raises:
        OSError: as from open(2).
        UsageError: there is no such root.
    """
    if os.path.realpath(root) == "/":
        # Not blocking: it may be a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            return stream.read(SIZE_LIMIT)
    if not os.path.isdir(root):
        raise UsageError(f"--root {root}: no such directory")
    from csagent.system.tree import Tree

    return Tree(root).read(path, SIZE_LIMIT)


def load(root: str, path: str) -> Optional[Dict[str, Any]]:
    """One of the two files; None where no pass has written it yet.

    Raises:
        CsagentError: it cannot be read.
        Damaged: it is not ours.
    """
    try:
        document = json_limits.loads(read(root, path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CsagentError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        by = "csagent user-data run" if path == USER_DATA else "the next pass of csagent"
        raise Damaged(f"{path} is damaged; {by} writes it anew")
    return document


def wait_for(root: str, path: str, seconds: float) -> Dict[str, Any]:
    """The same, waiting for the first pass at most so long.

    Raises:
        CsagentError: no pass has ended by then, or what the last one left is damaged still.
    """
    for document in _looks(lambda: load(root, path), seconds):
        if document is not None:
            return document
    waited = f" within {seconds:g} s" if seconds else " yet"
    raise CsagentError(f"no pass has ended{waited}: see systemctl status csagent, or run csagent apply")


def _looks(
    look: Callable[[], Optional[Dict[str, Any]]], seconds: float
) -> Iterator[Optional[Dict[str, Any]]]:
    """What is there now, again and again, at most so long; what is damaged is waited for, too.

    Raises:
        Damaged: it still is at the end.
    """
    end = time.monotonic() + seconds
    while True:
        damaged = None
        try:
            found = look()
        except Damaged as error:
            damaged = error
        else:
            yield found
        left = end - time.monotonic()
        if left <= 0:
            if damaged is not None:
                raise damaged
            return
        time.sleep(min(LOOK_AGAIN, left))


def user_data(root: str) -> Optional[Dict[str, Any]]:
    """What became of this instance's user-data; None where there is none to run.

    The layout is that of `csagent.user_data.status`. Before anything has run it says `waiting`; where the
    document has been changed in CloudStack since, `changed`.
    """
    document, mark = load(root, USER_DATA), load(root, READY)
    if document is not None and document.get("by_hand") is not True:
        if mark is not None and mark.get("sha256") != document.get("sha256"):
            document["state"] = "changed"
        return document
    return None if mark is None else {"schema": 1, "state": "waiting", "parts": [], "stages": {}}


def wait_for_new_account(root: str, seconds: float) -> Optional[Dict[str, Any]]:
    """The newest status, once an account that user-data has made has its key and password.

    The daemon runs a pass for it at once, and another one where its home came later; at most `NEW_ACCOUNT`
    seconds are waited for. None where there is no status any more.
    """
    document = None
    for document in _looks(lambda: load(root, STATUS), min(seconds, NEW_ACCOUNT)):
        if document is None or not owes_to_an_account(document):
            break
    return document


def owes_to_an_account(document: Mapping[str, Any]) -> bool:
    """Whether the last pass missed an account, or its home, that is there now: another pass is to come."""
    data = document.get("data")
    if not isinstance(data, dict):
        return False
    return any(_is_there_now(data.get(name)) for name in OF_THE_ACCOUNT)


def missed_account(datum: Any) -> str:
    """The account that was not there when a datum was to be applied; "" where it was not that."""
    reason = _failure(datum)
    return reason[len(MISSED_ACCOUNT) :].partition(":")[0] if reason.startswith(MISSED_ACCOUNT) else ""


def _is_there_now(datum: Any) -> bool:
    account = missed_account(datum)
    if account:
        return _exists(account)
    _file, missed, said = _failure(datum).partition(MISSED_HOME)
    home, _of, why = said.rpartition(" of ")
    return bool(missed) and why.endswith(os.strerror(errno.ENOENT)) and _may_be(home)


def _may_be(home: str) -> bool:
    try:
        os.stat(home)
    except PermissionError:
        return True  # ProtectHome= hides it from the unit that waits as cloud-init does
    except OSError:
        return False
    return True


def _failure(datum: Any) -> str:
    """Why it failed; "" where it did not."""
    failed = isinstance(datum, dict) and datum.get("state") == "failed"
    return str(datum.get("reason")) if failed else ""


def _exists(account: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def wait_for_user_data(root: str, seconds: float, *, final: bool) -> Optional[Dict[str, Any]]:
    """The same when its early stage has ended, or its final one; where there is none, at once.

    Raises:
        CsagentError: it has not ended by then.
    """
    stage = "final" if final else "early"
    for document in _looks(lambda: user_data(root), seconds):
        if document is None:
            return None
        stages = document.get("stages")
        if isinstance(stages, dict) and stages.get(stage) == "ended":
            return document
    raise CsagentError(
        f"the {stage} stage of user-data has not ended within {seconds:g} s: see csagent status, "
        "and systemctl status csagent-user-data-early csagent-user-data"
    )
