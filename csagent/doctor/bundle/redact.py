"""What of a machine's own files and commands may leave it: by name of the sanitiser, see `inputs`.

Each works by what it keeps, so that what nobody thought of stays behind. The exception is our own prose, in
status.json, the report and the journal; there a value beside a telling word goes.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from csagent.apply.authorized_keys import BEGIN, BEGIN_MARK, END
from csagent.discovery.leases import (
    cloud_init,
    connman,
    dhclient,
    dhcpcd,
    klibc,
    networkd,
    networkmanager,
    udhcpc,
    wicked,
)
from csagent.doctor.bundle import redact_commands as commands
from csagent.doctor.bundle import redact_config as config
from csagent.doctor.bundle import redact_leases as leases
from csagent.doctor.bundle import redact_network as network
from csagent.doctor.bundle.redact_leases import by_line, dump, name_set
from csagent.doctor.bundle.redact_text import REDACTED, prose, words
from csagent.doctor.checks import homes
from csagent.system import json_limits

Sanitiser = Callable[[bytes], bytes]
Rules = Tuple[Tuple[str, Sanitiser], ...]

OS_RELEASE = name_set(
    "ID ID_LIKE NAME PRETTY_NAME VERSION VERSION_ID VERSION_CODENAME VARIANT_ID BUILD_ID IMAGE_ID "
    "IMAGE_VERSION"
)
METHODS = name_set("1 2 2a 2b 2x 2y 5 6 7 y gy md5 sha1")


def single(content: bytes) -> bytes:
    """One short printable line, as in /sys."""
    line = content.split(b"\n", 1)[0].decode("utf-8", "replace")[:256]
    shown = "".join(char for char in line if char.isprintable())
    return words(shown).encode() + b"\n" if shown else b""


def passwd(content: bytes, user: str) -> bytes:
    """The line of the account, its GECOS field emptied."""
    fields = _own_line(content, user, 7)
    return b"" if fields is None else ":".join((user, "x", *fields[2:4], "", *fields[5:7])).encode() + b"\n"


def group(content: bytes, user: str) -> bytes:
    """Names and ids of the groups; of the members only the account."""
    kept: List[str] = []
    for line in content.decode("utf-8", "replace").split("\n"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit():
            kept.append(f"{fields[0]}:x:{fields[2]}:{user if user in fields[3].split(',') else ''}\n")
    return "".join(kept).encode()


def shadow(content: bytes, user: str) -> bytes:
    """The line of the account, with what tells whether it is locked, and how it is hashed."""
    fields = _own_line(content, user, 2)
    if fields is None:
        return b""
    rest = [field if re.fullmatch(r"[0-9-]{0,12}", field) else "" for field in fields[2:9]]
    return ":".join((user, password_field(fields[1]), *rest)).encode() + b"\n"


def password_field(value: str) -> str:
    """Of `!$y$...` the leading marks, the method, and a word for the rest: `!$y$redacted`."""
    marks = value[: len(value) - len(value.lstrip("!*"))]
    rest = value[len(marks) :]
    method = re.match(r"\$([a-z0-9]{1,4})\$", rest)
    known = method.group(0) if method and method.group(1) in METHODS else ""
    return marks + known + (REDACTED if rest else "")


def _own_line(content: bytes, user: str, fields: int) -> Optional[List[str]]:
    for line in content.decode("utf-8", "replace").split("\n"):
        found = line.split(":")
        if found[0] == user and len(found) >= fields:
            return found
    return None


def keys(content: bytes) -> bytes:
    """authorized_keys: of a key its type, and the length of an RSA key; our own marks; else nothing."""
    kept: List[str] = []
    for line in content.decode("utf-8", "replace").splitlines():
        said = line.strip()
        kind, _, bits = (homes.key_type(said) or "").partition(" ")
        if said.startswith(BEGIN_MARK):
            kept.append(BEGIN)
        elif said == END:
            kept.append(END)
        else:
            kept.append(f"{kind} bits={bits or 0}" if kind and not said.startswith("#") else "#")
    return "".join(f"{line}\n" for line in kept).encode()


def udev(content: bytes) -> bytes:
    """What the list of drives takes from udev's database: labels, no serial numbers."""
    said = re.compile(r"E:(?:ID_FS_LABEL|ID_FS_LABEL_ENC|ID_FS_TYPE|ID_CDROM)=[ -~]*")
    return by_line(content, lambda line: line if said.fullmatch(line) else None)


def status(content: bytes) -> bytes:
    """status.json: what its layout has, and nothing that is none of its."""
    try:
        document = json_limits.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "schema" not in document:
        return b"damaged\n"
    return dump(_texts({key: value for key, value in document.items() if key in _STATUS}))


_STATUS = name_set(
    "schema version instance_id source_found started finished seconds exit_code note data places refusals "
    "ownership owners rivals"
)


def _texts(value: object) -> object:
    if isinstance(value, str):
        return prose(value)
    if isinstance(value, list):
        return [_texts(one) for one in value]
    if isinstance(value, dict):
        return {key: _texts(one) for key, one in value.items()}
    return value


def document(value: object) -> bytes:
    """A document of ours as JSON, its texts without what looks like a secret."""
    return dump(_texts(value))


LEASES: Rules = (
    (networkd.LEASES, leases.pairs(leases.NETWORKD)),
    (networkd.LINKS + "*", leases.pairs(leases.NETWORKD)),
    (networkmanager.DEVICES, leases.pairs(leases.NM, leases.NM_SECTIONS)),
    *((pattern, leases.pairs(leases.NETWORKD)) for pattern in networkmanager.INTERNAL),
    (wicked.LEASEINFO, leases.pairs(leases.WICKED)),
    (wicked.XML, leases.wicked_xml),
    (udhcpc.HOOK + "*", leases.udhcpc_hook),
    *((pattern, leases.pairs(leases.UDHCPC)) for pattern in udhcpc.FILES if pattern != udhcpc.HOOK + "*"),
    *((pattern, leases.dhcpcd_message) for pattern in dhcpcd.FILES),
    *((pattern, leases.dhclient) for pattern in dhclient.FILES),
    (cloud_init.DHCLIENT, leases.dhclient),
    (cloud_init.UDHCPC, leases.cloud_init_json),
    *((pattern, leases.pairs(leases.KLIBC)) for pattern in klibc.FILES),
    *((pattern, leases.pairs(leases.CONNMAN, leases.NM_SECTIONS)) for pattern in connman.FILES),
)
"""For each pattern of `finder.lease_patterns`, in the order of the clients."""


# --- which of them for what ---------------------------------------------------------------------


def file_rule(path: str, name: str, user: str) -> Optional[Sanitiser]:
    """The sanitiser of a file; None where nobody has said what of it may leave the machine.

    Args:
        path: the guest's.
        name: as in `inputs.SANITISERS`, or `lease`.
        user: the account whose lines are kept.
    """
    if name == "lease":
        return _first(LEASES, path)
    if name == "plain" and path == "/etc/group":
        return lambda content: group(content, user)
    if name in ("passwd", "shadow"):
        line = {"passwd": passwd, "shadow": shadow}[name]
        return lambda content: line(content, user)
    if name == "keys":
        return keys
    return _first(FILES, path) if name == "plain" else None


def command_rule(argv: Sequence[str], user: str) -> Optional[Sanitiser]:
    """The sanitiser of what a command prints; None where nobody has said so."""
    if tuple(argv[:2]) == ("getent", "passwd"):
        return lambda content: passwd(content, user)
    if argv[0] == "ip":
        return {"addr": leases.ip_addr, "route": network.ip_route}.get(argv[-1])
    return COMMANDS.get(argv[0])


def _first(rules: Rules, path: str) -> Optional[Sanitiser]:
    return next((rule for pattern, rule in rules if fnmatch.fnmatchcase(path, pattern)), None)


FILES: Rules = (
    ("/sys/*", single),
    ("/proc/*net/route", network.routes),
    ("/proc/*mounts", network.mounts),
    ("/run/csagent/status.json", status),
    ("/run/udev/data/*", udev),
    ("*resolv*.conf", network.resolv_conf),
    ("/etc/csagent/*", config.settings),
    ("/etc/ssh/sshd_config*", config.sshd),
    ("/usr/etc/ssh/sshd_config*", config.sshd),
    ("*/csagent.service*", config.unit),
    ("/etc/pam.d/*", config.pam),
    ("/etc/authselect/*", config.pam),
    ("/usr/lib/pam.d/*", config.pam),
    ("/etc/security/access*", config.access),
    ("*/crypto-policies/*", config.sshd),
    ("/etc/selinux/config", leases.pairs(name_set("SELINUX SELINUXTYPE"))),
    ("*/os-release", leases.pairs(OS_RELEASE)),
)
"""For what `inputs` calls plain; what is not in here is left out."""

COMMANDS: Dict[str, Sanitiser] = {
    "networkctl": leases.networkctl,
    "nmcli": leases.nmcli,
    "dhcpcd": leases.pairs(leases.UNDERSCORED),
    "id": commands.groups,
    "stat": commands.modes,
    "sshd": config.sshd,
    "systemctl": commands.properties,
    "df": commands.df,
    "ausearch": commands.audit,
    "matchpathcon": commands.labels,
    "journalctl": commands.journal,
}


def leaks(content: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether there is a private key in it, or one of the machine's own hashes."""
    return b" PRIVATE KEY-----" in content or any(secret in content for secret in secrets)
