"""What in sshd's settings makes a right password or a right key useless."""

from __future__ import annotations

import re
import shlex
from typing import Iterator, List, Optional, Sequence

from csagent.apply import ssh_keys
from csagent.console import one_line
from csagent.doctor.checks import homes, pam
from csagent.doctor.checks import sshd_config as config
from csagent.doctor.checks.sshd_config import (
    CLIENT_ADDRESS,
    CLIENT_HOST,
    CONFIGS,
    Effective,
    Login,
    program,
)
from csagent.doctor.context import DEADLINE, Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.system import accounts

DROP_INS = "/etc/ssh/sshd_config.d"
INCLUDED = re.compile(rf"^\s*Include\s+{re.escape(DROP_INS)}/\*\.conf", re.IGNORECASE | re.MULTILINE)
HOST_KEYS = "/etc/ssh/ssh_host_*_key"
# What ssh.socket starts for each login has read its settings then: nothing to reload, and no failure.
RELOAD = "systemctl try-reload-or-restart ssh || systemctl try-reload-or-restart sshd"
RESTART = "systemctl restart ssh || systemctl restart sshd"
# Without the test sshd would end and not start again; without the directory, which its unit makes, it fails.
MENDED = f"mkdir -p /run/sshd; sshd -t && {{ {RESTART}; }}"
KEYLESS = "sshd does not start, or ends every connection"
NO_KEYS, TOO_OPEN = "no hostkeys available", "too open"  # as sshd says it
MADE_BY_UNIT = "Missing privilege separation directory"
SAID_LIMIT = 200  # characters of a line of sshd's
SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")}  # an RSA key signs with any of them
REFUSED_BY_DEFAULT = ("ssh-dss",)  # since OpenSSH 7.0
GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")  # and no pattern
NOBODY = ("none", "")


def sshd(situation: Situation) -> Iterator[Finding]:
    """Its settings for the account, then what stands in the way of the account's keys."""
    account = situation.account
    groups = accounts.group_names(situation.system, account) if account is not None else []
    login = Login(situation.user, tuple(groups))
    try:
        effective = _effective(situation, login)
    except OSError as error:
        yield from homes.home(situation, True)
        yield Finding("sshd", NOTE, f"not seen: sshd's settings ({error.strerror}; this needs root)")
        return
    refusal = _refusal(situation, effective)
    if effective is None:
        yield from homes.home(situation, True)
        if refusal:
            yield _does_not_start(refusal)
            return
        yield Finding("sshd", NOTE, "no sshd here", "without it the console is the only way in")
        return
    yield from homes.home(situation, effective.on("strictmodes"))
    findings = [
        *([_does_not_start(refusal)] if refusal and NO_KEYS not in refusal else []),
        *_who(situation, effective, login),
        *_root(situation, effective),
        *_password(situation, effective),
        *_keys(situation, effective),
        *_methods(situation, effective),
        *pam.access(situation, login.groups),
        *_host_keys(situation, effective, refusal),
    ]
    if all(one.state in (OK, NOTE) for one in findings):
        how = "as sshd -T says" if effective.exact else "read from sshd_config: sshd -T was not to be had"
        yield Finding("sshd", OK, f"lets {situation.user} in with a right password or key", how)
    yield from findings
    for note in dict.fromkeys(effective.notes):
        yield Finding("sshd", NOTE, note)


def _effective(situation: Situation, login: Login) -> Optional[Effective]:
    """As sshd itself says (root only, and where it runs), else as its files do; None where there is none.

    Raises:
        OSError: there is an sshd_config, and it cannot be read.
    """
    who = f"user={login.user},host={CLIENT_HOST},addr={CLIENT_ADDRESS}"
    said = situation.ask("sshd", "-T", "-C", who)
    if said and "permitrootlogin" in said:
        effective = config.parse_effective(said)
        config.locate(situation.system.tree, effective, login)
        return effective
    try:
        return config.read_effective(situation.system.tree, login)
    except FileNotFoundError:
        return None


def _refusal(situation: Situation, effective: Optional[Effective]) -> str:
    """What ``sshd -t`` says where sshd would not start; "" where it does, or nobody can tell.

    Only root can, since sshd reads its host keys first. ``sshd -T -C`` alone may fail for less: a Match that
    asks for what it was not told.
    """
    if situation.tree or not situation.root or (effective is not None and effective.exact):
        return ""
    done = situation.system.runner.run(("sshd", "-t"), timeout=DEADLINE)
    return "" if done.code in (None, 0) or MADE_BY_UNIT in done.said else done.said


def _does_not_start(refusal: str) -> Finding:
    means = "sshd does not start with that; one that runs goes on until it is to start again"
    return Finding("sshd", PROBLEM, f"sshd -t: {_last(refusal)}", means, f"mend that, then: {MENDED}")


def _last(refusal: str) -> str:
    """What it ends for, and the line before, which often says where."""
    return "; ".join(one_line(line.strip(), SAID_LIMIT) for line in refusal.split("\n")[-2:])


def _saw(situation: Situation, effective: Effective, keyword: str, shown: str) -> str:
    """A setting of sshd's with its value, and the file and line that says it."""
    return f"{shown} {effective.get(keyword)} ({_where(situation, effective, keyword)})"


def _where(situation: Situation, effective: Effective, keyword: str) -> str:
    where = effective.where(keyword)
    return situation.shown(where) if where.startswith("/") else where


def _say(situation: Situation, effective: Effective, keyword: str, wanted: str) -> str:
    """How to say something else: where it is said now, since the first value wins, or before all else."""
    where = effective.where(keyword)
    if where.startswith("/"):
        return f"write {wanted} in {where}; then: {RELOAD}"
    if INCLUDED.search(situation.read(CONFIGS[0]) or ""):
        return f"echo '{wanted}' >> {DROP_INS}/00-local.conf; then: {RELOAD}"
    return f"write {wanted} at the top of {CONFIGS[0]}; then: {RELOAD}"


def _who(situation: Situation, effective: Effective, login: Login) -> Iterator[Finding]:
    """DenyUsers, AllowUsers, DenyGroups, AllowGroups, in the order in which sshd asks them."""
    user = login.user
    refused = f"sshd refuses {user}, with the right password or key too"
    deny = effective.values.get("denyusers", [])
    allow = effective.values.get("allowusers", [])
    hit, pattern = config.listed(login, deny)
    if hit:
        partly = "@" in pattern
        advice = f"take {pattern} out of DenyUsers ({effective.where('denyusers')}), then: {RELOAD}"
        means = f"{refused} from there" if partly else refused
        yield Finding("sshd", WARNING if partly else PROBLEM, f"DenyUsers {pattern}", means, advice)
    if allow:
        hit, pattern = config.listed(login, allow)
        if not hit:
            advice = f"add {user} to AllowUsers ({effective.where('allowusers')}), then: {RELOAD}"
            yield Finding("sshd", PROBLEM, f"AllowUsers {' '.join(allow)}", refused, advice)
        elif "@" in pattern:
            yield Finding("sshd", NOTE, f"AllowUsers {pattern}", f"{user} gets in from there only")
    deny, allow = effective.values.get("denygroups", []), effective.values.get("allowgroups", [])
    hit, pattern = config.listed_groups(login, deny)
    if hit:
        advice = f"take {user} out of the group, or {pattern} out of DenyGroups, then: {RELOAD}"
        yield Finding(
            "sshd", PROBLEM, f"DenyGroups {pattern} ({effective.where('denygroups')})", refused, advice
        )
    if allow and not config.listed_groups(login, allow)[0]:
        saw = f"AllowGroups {' '.join(allow)} ({effective.where('allowgroups')})"
        yield Finding("sshd", PROBLEM, saw, refused, _into_a_group(situation, effective, allow))


def _into_a_group(situation: Situation, effective: Effective, allow: Sequence[str]) -> str:
    """AllowGroups has patterns, and names of groups that may not be there."""
    named = [one for one in allow if GROUP.fullmatch(one)]
    known = [one for one in named if accounts.group_id(situation.system, one) is not None]
    if not named:
        where = effective.where("allowgroups")
        return f"add a group of {situation.user} to AllowGroups ({where}), then: {RELOAD}"
    join = f"usermod --append --groups {(known or named)[0]} {situation.user}"
    return join if known else f"groupadd {named[0]} && {join}"


def _root(situation: Situation, effective: Effective) -> Iterator[Finding]:
    """PermitRootLogin, where the account is root's."""
    account = situation.account
    value = effective.get("permitrootlogin").lower()
    if account is None or account.uid != 0 or value == "yes":
        return
    saw = _saw(situation, effective, "permitrootlogin", "PermitRootLogin")
    other = "; or name another account in the setting user"
    if value == "no":
        matters = situation.password_matters or situation.keys_matter
        means = (
            f"sshd refuses {account.name} with the right password and with the right key; a console does not"
        )
        advice = _say(situation, effective, "permitrootlogin", "PermitRootLogin yes") + other
        yield Finding("sshd", PROBLEM if matters else NOTE, saw, means, advice if matters else "")
    elif value == "forced-commands-only":
        means = (
            "only keys with command= in authorized_keys get in; CloudStack's have none, and passwords do not"
        )
        matters = situation.password_matters or situation.keys_matter
        advice = _say(situation, effective, "permitrootlogin", "PermitRootLogin prohibit-password")
        yield Finding("sshd", PROBLEM if matters else NOTE, saw, means, advice if matters else "")
    else:
        means = f"a right password for {account.name} is refused by sshd (a key and the console are not)"
        matters = situation.password_matters
        advice = _say(situation, effective, "permitrootlogin", "PermitRootLogin yes") + other
        yield Finding("sshd", PROBLEM if matters else NOTE, saw, means, advice if matters else "")


def _password(situation: Situation, effective: Effective) -> Iterator[Finding]:
    """PasswordAuthentication; keyboard-interactive with PAM asks for the same password."""
    if effective.on("passwordauthentication"):
        return
    saw = _saw(situation, effective, "passwordauthentication", "PasswordAuthentication")
    if effective.on("kbdinteractiveauthentication") and effective.on("usepam"):
        means = "KbdInteractiveAuthentication is on: people are asked for the password, programs may not be"
        yield Finding("sshd", NOTE, saw, means)
        return
    matters = situation.password_matters
    means = f"a right password for {situation.user} is refused by sshd (a key and the console are not)"
    advice = _say(situation, effective, "passwordauthentication", "PasswordAuthentication yes")
    yield Finding("sshd", PROBLEM if matters else NOTE, saw, means, advice if matters else "")


def _methods(situation: Situation, effective: Effective) -> Iterator[Finding]:
    """AuthenticationMethods may want more than a password, or more than a key."""
    value = effective.get("authenticationmethods")
    if value.lower() in ("any", ""):
        return
    saw = _saw(situation, effective, "authenticationmethods", "AuthenticationMethods")
    alone = {part.split(":")[0] for part in value.split() if "," not in part}
    useless: List[str] = []
    if situation.password_matters and not alone & {"password", "keyboard-interactive"}:
        useless.append("password")
    if situation.keys_matter and "publickey" not in alone:
        useless.append("key")
    if useless:
        means = f"a right {' or '.join(useless)} alone is not enough"
        advice = _say(situation, effective, "authenticationmethods", "AuthenticationMethods any")
        yield Finding("sshd", PROBLEM, saw, means, advice)
    else:
        yield Finding("sshd", NOTE, saw, "only these ways in are open")


def _keys(situation: Situation, effective: Effective) -> Iterator[Finding]:
    """Whether a key is looked for at all, in the file that csagent writes, and its type taken."""
    bad = PROBLEM if situation.keys_matter else NOTE
    if not effective.on("pubkeyauthentication"):
        saw = _saw(situation, effective, "pubkeyauthentication", "PubkeyAuthentication")
        advice = _say(situation, effective, "pubkeyauthentication", "PubkeyAuthentication yes")
        yield Finding("sshd", bad, saw, "a right key is refused by sshd", advice if bad == PROBLEM else "")
        return
    yield from _file(situation, effective, bad)
    yield from _types(situation, effective, bad)
    if effective.get("authorizedkeyscommand").lower() not in NOBODY:
        # The program only: what it is given may be a token, and this goes into support archives.
        words = effective.values["authorizedkeyscommand"]
        where = _where(situation, effective, "authorizedkeyscommand")
        saw = f"AuthorizedKeysCommand {program(words)} ({where})"
        yield Finding("sshd", NOTE, saw, "gives keys besides those in files; CloudStack's are still read")
    if not effective.on("usepam") and _locked(situation):
        means = "without PAM sshd refuses a locked account, with the right key too"
        advice = _say(situation, effective, "usepam", "UsePAM yes")
        yield Finding("sshd", bad, "UsePAM no, and the account is locked (!)", means, advice)


def _locked(situation: Situation) -> bool:
    try:
        entry = accounts.shadow(situation.system, situation.user)
    except OSError:
        return False
    return entry is not None and entry.password.startswith("!")


def _file(situation: Situation, effective: Effective, bad: str) -> Iterator[Finding]:
    account = situation.account
    if account is None:
        return
    ours = ssh_keys.path(account)
    wanted = effective.get("authorizedkeysfile").split()
    read = [_expand(one, account.name, account.uid, account.home) for one in wanted]
    if ours in read:
        return
    saw = _saw(situation, effective, "authorizedkeysfile", "AuthorizedKeysFile")
    means = f"sshd does not read {ours}, which is where csagent writes the keys"
    advice = _say(situation, effective, "authorizedkeysfile", "AuthorizedKeysFile .ssh/authorized_keys")
    yield Finding("sshd", bad, saw, means, advice if bad == PROBLEM else "")


def _expand(pattern: str, user: str, uid: int, home: str) -> str:
    """The file that sshd looks at: %u, %U, %h and %% are replaced, and it stands below the home directory."""
    out, at = "", 0
    known = {"u": user, "U": str(uid), "h": home.rstrip("/"), "%": "%"}
    while at < len(pattern):
        token = pattern[at + 1 : at + 2]
        if pattern[at] == "%" and token in known:
            out += known[token]
            at += 2
        else:
            out += pattern[at]
            at += 1
    path = out if out.startswith("/") else f"{home.rstrip('/')}/{out}"
    return "/".join(part for index, part in enumerate(path.split("/")) if index == 0 or part not in ("", "."))


def _types(situation: Situation, effective: Effective, bad: str) -> Iterator[Finding]:
    types = list(situation.seen.key_types)
    if not types and situation.account is not None:
        known = homes.read_keys(situation)
        types = list(known.ours) if known is not None else []
    useless: List[str] = []
    least = effective.get("requiredrsasize")
    for kind in dict.fromkeys(types):
        name, _, size = kind.partition(" ")
        if not _taken(effective, name):
            useless.append(name)
        elif size.isdigit() and least.isdigit() and int(size) < int(least):
            saw = f"an ssh-rsa key of {size} bits; RequiredRSASize {least}"
            means = "sshd refuses a key that is so small"
            advice = "make a new key (ssh-keygen -t ed25519) and reset it in CloudStack"
            yield Finding("sshd", bad if len(set(types)) == 1 else WARNING, saw, means, advice)
    if not useless:
        return
    where = effective.where("pubkeyacceptedalgorithms")
    saw = f"keys of the type {', '.join(useless)}; PubkeyAcceptedAlgorithms ({where}) does not have it"
    means = "sshd refuses them though they are the right ones"
    advice = "make a new key (ssh-keygen -t ed25519) and reset it in CloudStack"
    all_of_them = len(useless) == len({kind.partition(" ")[0] for kind in types})
    yield Finding("sshd", bad if all_of_them else WARNING, saw, means, advice)


def _taken(effective: Effective, kind: str) -> bool:
    """Whether keys of a type are accepted: the list replaces the default, or adds (+, ^) or removes (-)."""
    value = effective.get("pubkeyacceptedalgorithms")
    names: Sequence[str] = SIGNATURES.get(kind, (kind,))
    default = kind not in REFUSED_BY_DEFAULT
    if not value:
        return default
    if value[0] in "+^":
        return default or any(config.matches(name, value[1:]) for name in names)
    if value[0] == "-":
        return default and not all(config.matches(name, value[1:]) for name in names if name != "ssh-rsa")
    return any(config.matches(name, value) for name in names)


def _host_keys(situation: Situation, effective: Effective, refusal: str) -> Iterator[Finding]:
    """Without a host key sshd does not start; a template has none, and gets them on its first boot.

    Where sshd itself was asked, it is the judge of them: one that others may read is none to it.
    """
    tree, named = situation.system.tree, effective.values.get("hostkey", [])
    status = {path: tree.stat(path) for path in (named or tree.glob(HOST_KEYS))}
    there = [path for path, one in status.items() if one is not None and one.st_size]
    shown = ", ".join(map(situation.shown, named or [HOST_KEYS]))
    if effective.exact or (there and NO_KEYS not in refusal) or (named and not situation.root):
        return
    if there:
        open_ = TOO_OPEN in refusal
        advice = f"chmod go= {' '.join(map(shlex.quote, there))}; {RESTART}" if open_ else ""
        why = "others may read them" if open_ else _last(refusal)
        saw = f"sshd takes none of its host keys ({shown}): {why}"
        yield Finding("sshd", PROBLEM, saw, KEYLESS, advice or f"mend that, then: {MENDED}")
    elif situation.tree:
        means = "as in a sealed template: the first boot must make them before sshd starts"
        yield Finding("sshd", NOTE, "no host keys", means)
    else:
        make = f"ssh-keygen -t ed25519 -N '' -f {shlex.quote(named[0])}" if named else "ssh-keygen -A"
        yield Finding("sshd", PROBLEM, f"no host keys ({shown})", KEYLESS, f"{make}; {RESTART}")
