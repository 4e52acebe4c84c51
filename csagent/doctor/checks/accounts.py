"""What about the account itself makes a right password or a right key useless."""

from __future__ import annotations

import errno
import time
from typing import Iterator

from csagent.apply import failures
from csagent.doctor.context import NO_ACCOUNT, Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.system import accounts
from csagent.system.accounts import SHADOW, Shadow

DAY = 86400
SOON = 7  # days
RESET_PASSWORD = "reset the password in CloudStack, then: csagent apply"
NO_NOLOGIN = "systemctl restart systemd-user-sessions"
NOLOGIN = ("/etc/nologin", "/run/nologin")  # pam_nologin(8) looks at both
REFUSING = ("nologin", "false", "true", "sync", "halt", "shutdown")


def account(situation: Situation) -> Iterator[Finding]:
    """Whether it is there, may log in, and has not run out."""
    found = situation.account
    user = situation.user
    if found is None:
        means = "its password and keys have no place: csagent sets neither"
        yield Finding("account", PROBLEM, situation.account_problem, means, _make(situation))
        return
    yield Finding(
        "account", OK, f"{user}: uid {found.uid}, home {found.home}, shell {found.shell or '/bin/sh'}"
    )
    yield from _shell(situation, found.shell or "/bin/sh")
    yield from _shadow(situation)
    yield from nologin(situation, found.uid)


def _make(situation: Situation) -> str:
    """An account is made where there surely is none: root's is 0, and another one's may be a directory's."""
    user = situation.user
    if not situation.account_problem.startswith(NO_ACCOUNT):
        look = f"timeout 30 getent passwd {user}; grep ^passwd: /etc/nsswitch.conf"
        return f"{look}; mend the service that does not answer, then: csagent apply"
    if user == "root":
        return f"{failures.NO_ROOT}; {failures.AGAIN}"
    # useradd makes a group of that name, and nothing where there is one.
    group = f"--gid {user} " if accounts.group_id(situation.system, user) is not None else ""
    make = f"useradd --create-home {group}{user}"
    return f"{make}, or set user in /etc/csagent/csagent.yaml, then: csagent apply"


def _shell(situation: Situation, shell: str) -> Iterator[Finding]:
    user = situation.user
    advice = f"usermod --shell {_other_shell(situation, shell)} {user}"
    if shell.rsplit("/", 1)[-1] in REFUSING:
        means = f"a login as {user} ends at once, whatever the password or the key"
        yield Finding("account", PROBLEM, f"the shell of {user} is {shell}", means, advice)
        return
    status = situation.system.tree.stat(shell)
    if status is None:
        means = f"sshd refuses a login as {user}: a shell must be there and executable"
        yield Finding("account", PROBLEM, f"the shell {shell} of {user} does not exist", means, advice)
    elif not status.st_mode & 0o111:
        means = f"sshd refuses a login as {user}"
        yield Finding("account", PROBLEM, f"the shell {shell} of {user} is not executable", means, advice)


def _other_shell(situation: Situation, shell: str) -> str:
    """One that is there, and is not the one that is refused now."""
    for path in ("/bin/bash", "/bin/sh"):
        status = situation.system.tree.stat(path)
        if path != shell and status is not None and status.st_mode & 0o111:
            return path
    return "/bin/sh"


def _shadow(situation: Situation) -> Iterator[Finding]:
    user = situation.user
    try:
        entry = accounts.shadow(situation.system, user)
    except OSError as error:
        means = "whether the account is locked or expired was not looked at"
        saw = f"not seen: {SHADOW} ({error.strerror}; this needs root)"
        if situation.root:
            # pwconv makes it, with no password in it for anybody.
            gone = error.errno == errno.ENOENT
            advice = f"pwconv; {RESET_PASSWORD}" if gone else f"ls -l {SHADOW}; pwck -r"
            yield Finding("account", PROBLEM, f"{SHADOW}: {error.strerror}", means, advice)
        else:
            yield Finding("account", NOTE, saw, means)
        return
    if entry is None:
        means = "its password lies elsewhere (LDAP, or nowhere): csagent cannot set it"
        state = PROBLEM if situation.password_matters else NOTE
        advice = f"pwconv; {RESET_PASSWORD}; or name another account in the setting user"
        yield Finding("account", state, f"{user} has no entry in {SHADOW}", means, advice)
        return
    yield from _password(situation, entry)
    yield from _dates(situation, entry, int(situation.system.clock.now()) // DAY)


def _password(situation: Situation, entry: Shadow) -> Iterator[Finding]:
    user = situation.user
    anew = f"{RESET_PASSWORD}; or here: passwd {user}"
    if entry.password == "":
        means = "anybody who reaches a console is let in; sshd lets nobody in without a password by default"
        yield Finding("account", WARNING, f"{user} has an empty password", means, f"passwd {user}")
    elif not entry.locked:
        yield Finding("account", OK, f"{user} has a password")
    elif entry.password.lstrip("!*").startswith("$"):
        means = "somebody has locked the account after its password was set: no password opens it"
        state = PROBLEM if situation.password_matters else WARNING
        lock = entry.password[: entry.password.index("$")]
        # usermod takes one "!" away, and no "*"; passwd -l puts two in front on EL.
        unlock = " && ".join([f"usermod --unlock {user}"] * len(lock))
        advice = unlock if lock in ("!", "!!") else anew
        yield Finding("account", state, f"the password of {user} is locked ({lock})", means, advice)
    elif situation.password_matters and situation.seen.password != "offered":
        means = "CloudStack's password was set here before, and somebody has removed or locked it since"
        yield Finding("account", PROBLEM, f"{user} has no password ({entry.password[:1]})", means, anew)
    else:
        waits = (
            "the next pass sets the one that CloudStack offers"
            if situation.password_matters
            else ("as in a template: a password reset in CloudStack sets one")
        )
        yield Finding("account", NOTE, f"{user} has no password yet ({entry.password[:1]})", waits)


def _dates(situation: Situation, entry: Shadow, today: int) -> Iterator[Finding]:
    user = situation.user
    if entry.expires is not None and today >= entry.expires:
        means = "the account has expired: neither a password nor a key lets anybody in"
        saw = f"{user} expired on {_date(entry.expires)}"
        yield Finding("account", PROBLEM, saw, means, f"chage --expiredate -1 {user}")
    elif entry.expires is not None and today + SOON >= entry.expires:
        saw = f"{user} expires on {_date(entry.expires)}"
        yield Finding("account", WARNING, saw, "after that nobody logs in", f"chage --expiredate -1 {user}")
    if entry.changed == 0:
        means = "a new password is asked for at the next login, with a key too: logins of programs fail"
        advice = f"chage --lastday {_date(today)} {user}"
        yield Finding(
            "account", WARNING, f"the password of {user} must be changed at the next login", means, advice
        )
        return
    if entry.changed is None or entry.maximum is None or entry.maximum >= 99999:
        return
    over = entry.changed + entry.maximum
    if today <= over:
        return
    saw = f"the password of {user} ran out on {_date(over)}"
    advice = f"chage --maxdays -1 {user}; or {RESET_PASSWORD}"
    if entry.inactive is not None and today > over + entry.inactive:
        means = (
            "it was too old for too long, so the account is closed: neither password nor key lets anybody in"
        )
        yield Finding("account", PROBLEM, saw, means, advice)
    else:
        means = "a new one is asked for at the next login, with a key too: logins of programs fail"
        yield Finding("account", WARNING, saw, means, advice)


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


def nologin(situation: Situation, uid: int) -> Iterator[Finding]:
    """/etc/nologin and /run/nologin keep everybody out but root."""
    for path in NOLOGIN:
        if not situation.system.tree.exists(path):
            continue
        if path == "/run/nologin":
            # Left behind it stays: a unit that is active is not started again, and takes it away when it is.
            advice = (
                f"systemctl list-jobs; where a shutdown is planned: shutdown -c; where none is: {NO_NOLOGIN}"
            )
        else:
            advice = f"rm {path}"
        if uid == 0:
            yield Finding("account", NOTE, f"{path} is there", "only root may log in")
        else:
            means = f"only root may log in: {situation.user} is refused with the right password or key"
            yield Finding("account", PROBLEM, f"{path} is there", means, advice)
