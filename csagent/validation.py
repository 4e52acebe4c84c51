"""Whether a value can be what it is said to be. Pure; used by the readers and again by the parent.

Each function returns the clean value or raises `Malformed` or `Absent` with a reason that is safe to
print: the reason of a password never carries any of its bytes.
"""

from __future__ import annotations

import binascii
import re
from typing import List, Optional, Tuple

from csagent.errors import Absent, Malformed
from csagent.model import Platform, Secret

PASSWORD_LIMIT = 256
METADATA_LIMIT = 64 * 1024
USER_DATA_LIMIT = 1 << 20
KEYS_LIMIT = 1000
SSH_KEYS_LIMIT = 1000
SSH_KEYS_SIZE = 1 << 20
BYTE_ORDER_MARK = "\ufeff"

_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.ASCII)
_INSTANCE_NAME = re.compile(r"i-[0-9]{1,19}-[0-9]{1,19}-[A-Za-z0-9_-]{1,64}\Z", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z", re.ASCII)
_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}\Z", re.ASCII | re.IGNORECASE)
_DOTTED = re.compile(r"[0-9]+(\.[0-9]+)*\.?\Z", re.ASCII)
_HTML = re.compile(rb"<\s*(!doctype|html|head|body|title|meta|script|\?xml|h[1-6]|p|center)\b", re.IGNORECASE)
_KEY_NAME = re.compile(r"[^ .\-/\\?%#][^/\\?%#]{0,126}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PASSWORD_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# The metadata that CloudStack itself gives (field/cloudstack#2.4).
WELL_KNOWN_KEYS = (
    "local-hostname",
    "public-keys",
    "vm-id",
    "instance-id",
    "service-offering",
    "availability-zone",
    "local-ipv4",
    "public-ipv4",
    "public-hostname",
    "cloud-identifier",
    "hypervisor-host-name",
    "cloud-domain",
    "cloud-domain-id",
    "cloud-name",
)

# Those that the releases knew which had no /latest/meta-data/. The image's rules of 4.18 and later answer at
# the older path of two others with the vm-id (field/cloudstack#2.2).
OLD_KEYS = WELL_KNOWN_KEYS[:10]

# What else the metadata may have of a password: the network extension of 4.23 gives Windows guests its MD5 as
# `password-checksum` (a drive has vm-password-md5checksum.txt).
SECRET_KEYS = ("password", "vm-password")

SAVED_PASSWORD = b"saved_password"
BAD_REQUEST = b"bad_request"


def is_html(body: bytes) -> bool:
    """Whether a body is a web page: a 404, a router's, a portal's (field/cloudstack#edge-3, #edge-52)."""
    return _HTML.match(body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")) is not None


def password(raw: bytes, *, unsigned: bool = False) -> Secret:
    """What a password server or a drive gave, as a password.

    One trailing LF or CR LF is removed, nothing else is (field/cloudstack#4.7 and #edge-31 to #edge-34).

    Args:
        raw: the bytes.
        unsigned: they come from a server that does not sign as CloudStack's, and may be any web server:
            what those say is no password then.

    Raises:
        Absent: the server says that there is none for us (empty, `saved_password`, `bad_request`).
        Malformed: it cannot be a password.
    """
    if raw.endswith(b"\n"):
        raw = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
    if not raw.strip():
        raise Absent("empty: no password is waiting")
    if raw == SAVED_PASSWORD:
        raise Absent("saved_password: no new password is waiting")
    if raw == BAD_REQUEST:
        raise Absent("bad_request: there is nothing for this VM")
    if raw.strip().lower() in (SAVED_PASSWORD, BAD_REQUEST):
        raise Malformed("all but a word of the password protocol, which everybody knows")
    if b"\n" in raw or b"\r" in raw:
        raise Malformed("several lines where a password should be")
    if len(raw) > PASSWORD_LIMIT:
        raise Malformed(f"longer than {PASSWORD_LIMIT} bytes, not a password")
    if b"\0" in raw:
        raise Malformed("a NUL byte where a password should be")
    if _PASSWORD_CONTROL.search(raw.decode("latin-1")):
        raise Malformed("control characters where a password should be")
    if unsigned and raw.startswith(b"HTTP/"):
        raise Malformed("an HTTP status line where a password should be")
    if unsigned and is_html(raw):
        raise Malformed("HTML where a password should be")
    if unsigned and b"\t" in raw:
        raise Malformed("a tab where a password should be")
    return Secret(raw)


def instance_id(text: str) -> str:
    """A VM's id: a UUID (returned in lower case), or `i-2-3-VM` as releases before 4 say.

    Raises:
        Absent: it is empty.
        Malformed: it is neither.
    """
    text = text.strip()
    if not text:
        raise Absent("empty instance id")
    if _UUID.match(text.lower()):
        return text.lower()
    if _INSTANCE_NAME.match(text):
        return text
    raise Malformed(f"{excerpt(text)} is neither a UUID nor like i-2-3-VM")


def is_uuid(text: str) -> bool:
    """Whether an instance id is a UUID, and so can be compared with DMI's."""
    return _UUID.match(text.lower()) is not None


def same_uuid(one: str, other: str) -> bool:
    """Whether two UUIDs name the same machine.

    SMBIOS has the first three fields of a UUID as little-endian numbers since its release 2.6, and firmware,
    hypervisors and kernels disagree about which way round they are shown.
    """
    one, other = one.strip().lower(), other.strip().lower()
    return other in (one, _swapped(one))


def _swapped(uuid: str) -> str:
    """The UUID with the bytes of its first three fields the other way round."""
    fields = uuid.split("-")
    turned = [bytes.fromhex(field)[::-1].hex() for field in fields[:3]] if is_uuid(uuid) else fields[:3]
    return "-".join((*turned, *fields[3:]))


def is_anothers(instance: str, platform: Platform) -> bool:
    """Whether DMI, where CloudStack's, names another VM (field/cloudstack#8, #edge-22 and #edge-23)."""
    uuid = (platform.uuid or "").strip().lower()
    comparable = platform.cloudstack is True and is_uuid(uuid) and is_uuid(instance)
    return comparable and not same_uuid(instance, uuid)


def is_proven(instance: str, platform: Platform) -> bool:
    """Whether DMI, where it is CloudStack's, names this very VM; of a name like i-2-3-VM it never does."""
    uuid = (platform.uuid or "").strip().lower()
    return platform.cloudstack is True and is_uuid(uuid) and same_uuid(instance, uuid)


def hostname(text: str) -> str:
    """A host name to be set: RFC 1123, not an address, at most 64 bytes (HOST_NAME_MAX of Linux).

    Raises:
        Absent: it is empty.
        Malformed: it cannot be set.
    """
    text = text.strip()
    if not text:
        raise Absent("empty host name")
    if len(text) > 64:
        raise Malformed(f"host name of {len(text)} characters; Linux takes 64")
    if _DOTTED.match(text) or ":" in text:
        raise Malformed(f"{excerpt(text)} is an address, not a host name")
    if not all(_LABEL.match(label) for label in text.split(".")):
        raise Malformed(f"{excerpt(text)} is not a valid host name (RFC 1123)")
    if text.lower() in ("localhost", "localhost.localdomain"):
        raise Malformed("localhost is every machine's name")
    return text


def domain(text: Optional[str]) -> Optional[str]:
    """A DNS domain from a lease, or None where it is none we can put behind a host name."""
    if not text:
        return None
    text = text.strip().rstrip(".")
    if not text or len(text) > 190 or _DOTTED.match(text):
        return None
    return text if all(_LABEL.match(label) for label in text.split(".")) else None


def address(text: str) -> Optional[str]:
    """An IPv4 address in canonical form, or None: it may be a MAC address (field/cloudstack#edge-20)."""
    parts = text.strip().split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    return ".".join(map(str, numbers)) if max(numbers) <= 255 else None


def ipv4(text: Optional[str]) -> Optional[str]:
    """A unicast IPv4 address as a dotted quad, or None.

    0.0.0.0/8 ("none" in CloudStack's answers, field/cloudstack#1.4), loopback, multicast and above are no
    address that a DHCP server or a guest can have.
    """
    if text is None or len(text) > 15 or not _QUAD.fullmatch(text):
        return None
    octets = [int(part) for part in text.split(".")]
    if max(octets) > 255 or not 1 <= octets[0] <= 223 or octets[0] == 127:
        return None
    return text


def ipv4_bytes(raw: bytes) -> Optional[str]:
    """`ipv4` of four bytes in network order; None for any other length."""
    return ipv4(".".join(str(octet) for octet in raw)) if len(raw) == 4 else None


def is_mac(text: str) -> bool:
    """Whether the text is a MAC address."""
    return _MAC.match(text.strip()) is not None


def metadata_key(name: str) -> bool:
    """Whether a metadata key may be asked for and kept: a name of any language, no path and no part of a URL.

    CloudStack checks the names of user-data's variables little (field/cloudstack#2.4, #edge-24).
    """
    return _KEY_NAME.match(name) is not None and ".." not in name and name.isprintable()


def is_secret_key(name: str) -> bool:
    """Whether a metadata key, or one inside a directory, has a password or what gives one away."""
    return name.rsplit("/", 1)[-1].lower().replace("_", "-").startswith(SECRET_KEYS)


def value_limit(key: str) -> int:
    """How many bytes a value may have: SSH_KEYS_LIMIT keys are more than any other value."""
    return SSH_KEYS_SIZE if key == "public-keys" else METADATA_LIMIT


def metadata_value(raw: bytes, limit: int = METADATA_LIMIT) -> str:
    """A metadata value as text: markup, tabs and line ends are its owner's business, and only shown.

    Raises:
        Malformed: not UTF-8, other control characters, or too long.
    """
    if len(raw) > limit:
        raise Malformed(f"longer than {limit} bytes")
    text = _text(raw)
    if _CONTROL.search(text):
        raise Malformed("control characters in the value")
    return text


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None


# --- SSH keys -----------------------------------------------------------------------------------

# OpenSSH's names, with the hardware-backed (sk-) and certificate types (sshd(8), AUTHORIZED_KEYS).
_PLAIN_TYPES = {
    "ssh-rsa",
    "ssh-dss",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
}
_CERTIFICATE_TYPES = {
    f"{kind.split('@')[0]}-cert-v01@openssh.com" for kind in _PLAIN_TYPES if not kind.startswith("webauthn")
}
KEY_TYPES = frozenset(_PLAIN_TYPES | _CERTIFICATE_TYPES)


def split_key(line: str) -> Tuple[str, str, str, str]:
    """An `authorized_keys` line as (options, type, base64 blob, comment).

    Raises:
        Malformed: it is no public key, or a cut one.
    """
    if len(line) > 16 * 1024:
        raise Malformed("a line longer than 16 KiB is no public key")
    if line.startswith(BYTE_ORDER_MARK):
        raise Malformed("a byte order mark in front of a public key")
    if _CONTROL.search(line.replace("\t", " ")):
        raise Malformed("control characters in a public key")
    options, rest = "", line.strip()
    if rest.split(None, 1)[:1] and rest.split(None, 1)[0] not in KEY_TYPES:
        end = _end_of_options(rest)
        options, rest = rest[:end], rest[end:].lstrip()
    words = rest.split(None, 2)
    if len(words) < 2 or words[0] not in KEY_TYPES:
        raise Malformed(f"{excerpt(line)} is not a public key")
    kind, blob = words[0], words[1]
    try:
        raw = binascii.a2b_base64(blob.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise Malformed(f"{kind} key whose body is not base64") from None
    if len(blob) % 4 or not _is_whole_blob(raw, kind):
        raise Malformed(f"{kind} key that is cut short or of another type than it says")
    return options, kind, blob, words[2] if len(words) > 2 else ""


def _end_of_options(text: str) -> int:
    """Where the options end: the first blank outside double quotes (sshd(8))."""
    quoted = False
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\\" and text[index + 1 : index + 2] == '"':
            index += 1
        elif char == '"':
            quoted = not quoted
        elif char in " \t" and not quoted:
            return index
        index += 1
    return len(text)


def _is_whole_blob(raw: bytes, kind: str) -> bool:
    """Whether a blob is length-prefixed strings to its very end, the first being its type (RFC 4253)."""
    strings = 0
    position = 0
    while position + 4 <= len(raw):
        length = int.from_bytes(raw[position : position + 4], "big")
        if strings == 0 and raw[position + 4 : position + 4 + length] != kind.encode():
            return False
        position += 4 + length
        strings += 1
        if "-cert-" in kind:  # a certificate also has integers between the strings
            return len(raw) > 200
    return position == len(raw) and strings >= 2


def key_identity(line: str) -> Optional[Tuple[str, str]]:
    """(type, blob) of a line, which is what makes two lines the same key; None where it is no key."""
    try:
        _options, kind, blob, _comment = split_key(line)
    except Malformed:
        return None
    return kind, blob


def ssh_keys(raw: bytes) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """The public keys of an LF- or CRLF-joined list: (keys in order without repeats, reasons for the rest).

    Each line is judged by itself, and a reason begins with its number. Blank lines and comments are dropped
    without a word (field/cloudstack#5, #edge-51 and #edge-52).
    """
    keys: List[str] = []
    reasons: List[str] = []
    seen = set()
    for number, one in enumerate(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), 1):
        if not one.strip() or one.lstrip().startswith(b"#"):
            continue
        if len(keys) >= SSH_KEYS_LIMIT or len(reasons) >= SSH_KEYS_LIMIT:
            reasons.append(f"line {number}: more than {SSH_KEYS_LIMIT} keys, the rest is left out")
            break
        try:
            if is_html(one):
                raise Malformed("HTML where a public key should be")
            line = _text(one).strip()
            options, kind, blob, _comment = split_key(line)
        except Malformed as error:
            reasons.append(f"line {number}: {error}")
            continue
        if (options, kind, blob) not in seen:
            seen.add((options, kind, blob))
            keys.append(line)
    return tuple(keys), tuple(reasons)


def excerpt(text: str, limit: int = 40) -> str:
    """A piece of untrusted text, safe and short enough for one line of a report."""
    clean = text[: limit * 2].encode("ascii", "backslashreplace").decode()
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in clean)
    return f'"{clean[: limit - 3]}..."' if len(clean) > limit else f'"{clean}"'
