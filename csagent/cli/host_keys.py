"""The host keys of a machine as its console is shown them."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Dict, List

from csagent.console import one_line

if TYPE_CHECKING:
    from csagent.system.seams import System

DIRECTORY = "/etc/ssh"
LIMIT = 16384  # bytes of a public key's file
RULE = "#" * 61
# What ssh-keygen calls a type, and its size in bits, or which integer of the key has that size.
TYPES = {
    "ssh-ed25519": ("ED25519", 256, 0),
    "ecdsa-sha2-nistp256": ("ECDSA", 256, 0),
    "ecdsa-sha2-nistp384": ("ECDSA", 384, 0),
    "ecdsa-sha2-nistp521": ("ECDSA", 521, 0),
    "ssh-rsa": ("RSA", 0, 2),
    "ssh-dss": ("DSA", 0, 1),
}


def host_keys(system: "System") -> List[str]:
    """The host keys' fingerprints and the public keys, between the marker lines that cloud-init writes.

    Tools that look for them in a console's log rely on the lines (cloud-init, write-ssh-key-fingerprints);
    like there, a DSA key has its fingerprint only.
    """
    keys = _public_keys(system)
    if not keys:
        return []
    return [
        RULE,
        "-----BEGIN SSH HOST KEY FINGERPRINTS-----",
        *(said for said in map(fingerprint, keys.values()) if said),
        "-----END SSH HOST KEY FINGERPRINTS-----",
        RULE,
        "-----BEGIN SSH HOST KEY KEYS-----",
        *(text for text in keys.values() if not text.startswith("ssh-dss ")),
        "-----END SSH HOST KEY KEYS-----",
    ]


def _public_keys(system: "System") -> Dict[str, str]:
    """Each public host key as one line, by its file."""
    found: Dict[str, str] = {}
    for name in system.tree.names(DIRECTORY):
        if name.startswith("ssh_host_") and name.endswith("_key.pub"):
            text = system.tree.read_text(f"{DIRECTORY}/{name}", LIMIT)
            if text and text.strip():
                found[name] = one_line(text.strip(), LIMIT)
    return found


def fingerprint(line: str) -> str:
    """What `ssh-keygen -l` says of a public key; "" of what is none of `TYPES`.

    It is not run: policies of SELinux have it go into a domain of its own, which NoNewPrivileges= forbids.
    """
    words = line.split(None, 2)
    if len(words) < 2 or words[0] not in TYPES:
        return ""
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        return ""
    name, bits, number = TYPES[words[0]]
    fields = _fields(blob)
    if len(fields) <= number or fields[0] != words[0].encode():
        return ""
    bits = bits or int.from_bytes(fields[number], "big").bit_length()
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"{bits} SHA256:{digest} {words[2] if len(words) > 2 else 'no comment'} ({name})"


def _fields(blob: bytes) -> List[bytes]:
    """The strings and integers of a key, each with its length before it (RFC 4253)."""
    found: List[bytes] = []
    position = 0
    while position + 4 <= len(blob):
        length = int.from_bytes(blob[position : position + 4], "big")
        found.append(blob[position + 4 : position + 4 + length])
        position += 4 + length
    return found
