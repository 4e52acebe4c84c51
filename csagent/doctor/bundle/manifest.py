"""Every file and every command that doctor (and discover) may look at: what a support archive has to hold.

``{user}`` and ``{home}`` stand for the account of the setting `user`, ``{nic}`` for each NIC. Commands are
run with the C locale, their exit code is not looked at where they print something, and an archive lists
them in recorded.json under the same words joined by blanks.

The sanitisers say what an archive keeps of a file, so that no secret leaves the machine:

========== =====================================================================================
plain      what `redact.FILES` has for it: the lines and words that doctor judges by
shadow     the line of {user} only; of its password field the leading ``!`` and ``*``, the method (``$y$``)
           and, where there is more, the word ``redacted``: ``!$y$redacted``
passwd     name, ids, home and shell; the GECOS field emptied
keys       ``authorized_keys``: each key line becomes ``TYPE bits=N`` (N for ssh-rsa, else 0), csagent's two
           marker comments stay, every other line is a ``#``
empty      a file of the same name with nothing in it: only that it exists matters
========== =====================================================================================
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Tuple

from csagent.discovery.finder import lease_patterns

DEADLINE = 5.0  # seconds for one command
CLIENT_ADDRESS = "203.0.113.1"  # somebody in the Internet, RFC 5737: for whom sshd's settings are asked

_SANITISED: Tuple[Tuple[str, str], ...] = (
    # platform, NICs, routes
    ("/sys/class/dmi/id/sys_vendor", "plain"),
    ("/sys/class/dmi/id/product_name", "plain"),
    ("/sys/class/dmi/id/product_uuid", "plain"),
    ("/sys/class/net/*/address", "plain"),
    ("/sys/class/net/*/ifindex", "plain"),
    ("/sys/class/net/*/operstate", "plain"),
    ("/sys/class/net/*/carrier", "plain"),
    ("/proc/net/route", "plain"),
    ("/etc/resolv.conf", "plain"),
    ("/run/systemd/resolve/resolv.conf", "plain"),
    # what csagent knows
    ("/run/csagent/status.json", "plain"),
    ("/etc/csagent/csagent.yaml", "plain"),
    ("/etc/csagent/conf.d/*.yaml", "plain"),
    # the account
    ("/etc/passwd", "passwd"),
    ("/etc/group", "plain"),
    ("/etc/shadow", "shadow"),
    ("/etc/nologin", "empty"),
    ("/run/nologin", "empty"),
    ("/etc/pam.d/sshd", "plain"),
    ("/etc/pam.d/login", "plain"),
    ("/etc/pam.d/common-account", "plain"),
    ("/etc/pam.d/common-auth", "plain"),
    ("/etc/pam.d/system-auth", "plain"),
    ("/etc/pam.d/system-login", "plain"),
    ("/etc/pam.d/system-remote-login", "plain"),
    ("/etc/pam.d/password-auth", "plain"),
    ("/usr/lib/pam.d/sshd", "plain"),
    ("/usr/lib/pam.d/common-account", "plain"),
    ("/etc/security/access.conf", "plain"),
    ("/etc/security/access.d/*.conf", "plain"),
    ("{home}/.ssh/authorized_keys", "keys"),
    # sshd; its host keys: only whether there are any
    ("/etc/ssh/sshd_config", "plain"),
    ("/etc/ssh/sshd_config.d/*.conf", "plain"),
    ("/usr/etc/ssh/sshd_config", "plain"),
    ("/usr/etc/ssh/sshd_config.d/*.conf", "plain"),
    ("/etc/crypto-policies/back-ends/opensshserver.config", "plain"),
    ("/etc/ssh/ssh_host_*_key.pub", "empty"),
    # the machine
    ("/proc/mounts", "plain"),
    ("/sys/fs/selinux/enforce", "plain"),
    ("/etc/selinux/config", "plain"),
    ("/usr/lib/clock-epoch", "empty"),
    ("/etc/os-release", "plain"),
    ("/usr/lib/os-release", "plain"),
    ("/usr/lib/systemd/system/csagent.service", "plain"),
    ("/lib/systemd/system/csagent.service", "plain"),
    ("/etc/systemd/system/csagent.service", "plain"),
    ("/etc/systemd/system/csagent.service.d/*.conf", "plain"),
    ("/etc/systemd/system/multi-user.target.wants/csagent.service", "plain"),
)

SANITISERS: Dict[str, str] = dict(_SANITISED)
"""Pattern to the name of its sanitiser; the lease files are not in it: they are ``plain``."""

KEYS = "{home}/.ssh/authorized_keys"
UNITS = ("csagent.service", "ssh.service", "sshd.service", "ssh.socket", "sshd.socket", "sshd-keygen.target")
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainStatus,NeedDaemonReload"
)

COMMANDS: Tuple[Tuple[str, ...], ...] = (
    ("ip", "-j", "addr"),
    ("ip", "-j", "route"),
    ("networkctl", "--json=short", "status", "{nic}"),
    ("dhcpcd", "-U", "{nic}"),
    ("nmcli", "-f", "DHCP4", "device", "show", "{nic}"),
    ("getent", "passwd", "{user}"),
    ("id", "-Gn", "{user}"),
    # "/" is always there, so that something is printed whatever else is missing.
    ("stat", "-L", "-c", "%a %u %g %F|%n", "/", "{above}", "{home}", "{home}/.ssh", KEYS, "{shell}"),
    ("sshd", "-T", "-C", f"user={{user}},host=client.example,addr={CLIENT_ADDRESS}"),
    ("systemctl", "show", f"--property={UNIT_PROPERTIES}", *UNITS),
    ("df", "-P", "-k", "/etc", "/var/lib", "/run", "{home}"),
    ("df", "-P", "-i", "/etc", "/var/lib", "/run", "{home}"),
    ("ausearch", "-m", "AVC", "-ts", "boot"),
    ("matchpathcon", "-V", "/etc/passwd", "/etc/shadow", "{home}/.ssh", KEYS),
)
"""Command lines; `commands` fills them in."""

FILES: Tuple[str, ...] = tuple(dict.fromkeys((*SANITISERS, *lease_patterns())))
"""Patterns of absolute paths; `files` fills them in."""


def sanitiser(pattern: str) -> str:
    """The name of what an archive does to the files of a pattern of FILES."""
    return SANITISERS.get(pattern, "plain")


def files(home: str) -> Iterable[Tuple[str, str]]:
    """(pattern for `Tree.glob`, name of its sanitiser), for an account with this home directory."""
    for pattern in FILES:
        yield pattern.replace("{home}", home.rstrip("/")), sanitiser(pattern)


def commands(user: str, home: str, shell: str, nics: Sequence[str]) -> List[Tuple[str, ...]]:
    """The command lines for an account, one for each NIC where it asks about one."""
    return [
        filled
        for command in COMMANDS
        for nic in (nics if "{nic}" in command else ("",))
        for filled in (fill(command, user=user, home=home, shell=shell, nic=nic),)
    ]


def fill(
    command: Sequence[str], *, user: str = "root", home: str = "/root", shell: str = "/bin/sh", nic: str = ""
) -> Tuple[str, ...]:
    """One command line with the names put in; a path that is asked for twice is asked for once."""
    words: List[str] = []
    for word in command:
        if word == "{above}":
            words += [one for one in above(home) if one != "/"]
            continue
        for name, value in (("user", user), ("home", home.rstrip("/")), ("shell", shell), ("nic", nic)):
            word = word.replace("{" + name + "}", value)
        words.append(word or "/")
    return tuple(words)


def above(path: str) -> Tuple[str, ...]:
    """The directories above a path, from / down: sshd's StrictModes looks at all of them."""
    parts = [part for part in path.split("/") if part][:-1]
    return ("/", *("/" + "/".join(parts[: depth + 1]) for depth in range(len(parts))))


def command(name: str, *beginning: str) -> Tuple[str, ...]:
    """The one command line of COMMANDS that begins with these words."""
    (found,) = [one for one in COMMANDS if one[: 1 + len(beginning)] == (name, *beginning)]
    return found
