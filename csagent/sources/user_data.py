"""What a piece of user-data seems to be. Pure; the content itself is never changed.

The kinds are those that CloudStack and cloud-init tell apart (field/cloudstack#3.2 and #3.3):

    empty         nothing, or blank
    gzip          by its magic number
    script        ``#!``
    cloud-config  ``#cloud-config``
    boothook      ``#cloud-boothook``
    include       ``#include``, ``#include-once``
    jinja         ``## template: jinja``; what is behind the header is for the template to say
    multipart     a MIME message, of one part or several
    base64        text that is base64 of one of the above (users encode twice, #8791)
    unknown       anything else

Like cloud-init, it passes over a byte order mark and blank lines in front, and takes CR LF for LF.
"""

from __future__ import annotations

import hashlib
import re
from typing import Optional

from csagent.model import Secret, UserData

KINDS = (
    "script",
    "cloud-config",
    "boothook",
    "include",
    "multipart",
    "gzip",
    "base64",
    "jinja",
    "unknown",
    "empty",
)

HEAD_LIMIT = 16 * 1024  # a MIME header is shorter

_HEADERS = {
    b"#cloud-config": "cloud-config",
    b"#cloud-boothook": "boothook",
    b"#include": "include",
    b"#include-once": "include",
}
_JINJA = re.compile(rb"##\s*template\s*:\s*jinja\s*\Z", re.IGNORECASE)
_FIELD = re.compile(rb"([!-9;-~]{1,76}):")  # RFC 5322, 2.2
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}\Z")


def classify(content: bytes) -> str:
    """Name the kind of some user-data: one of `KINDS`."""
    return _plain_kind(content) or ("base64" if _is_base64(content) else "unknown")


def describe(content: bytes) -> UserData:
    """The user-data with its kind, its size in bytes, and the sha256 of the raw bytes (hexadecimal)."""
    return UserData(Secret(content), classify(content), len(content), hashlib.sha256(content).hexdigest())


def _plain_kind(content: bytes) -> Optional[str]:
    if content[:3] == b"\x1f\x8b\x08":  # RFC 1952: magic, and the only method there is
        return "gzip"
    text = content[3:] if content[:3] == b"\xef\xbb\xbf" else content
    text = text.lstrip()
    if not text:
        return "empty"
    head = text[:HEAD_LIMIT]
    line = head.split(b"\n", 1)[0].rstrip()
    if line.startswith(b"#!"):
        return "script"
    if line.startswith(b"#"):
        if _JINJA.match(line):
            return "jinja"
        return _HEADERS.get(line.split(None, 1)[0].lower())
    return "multipart" if _is_mime(head) else None


def _is_mime(head: bytes) -> bool:
    """Whether a header block with Content-Type or MIME-Version stands in front."""
    mime = False
    for number, line in enumerate(head.split(b"\n")):
        line = line.rstrip(b"\r")
        if not line:
            return mime
        if line[:1] in (b" ", b"\t") and number:
            continue  # folded
        field = _FIELD.match(line)
        if field is None:
            return False
        mime = mime or field.group(1).lower() in (b"content-type", b"mime-version")
    return mime


def _is_base64(content: bytes) -> bool:
    """Whether this is text whose beginning decodes to something that we know."""
    import binascii

    content = content.strip()
    if len(content) < 8 or not _BASE64.match(content):
        return False
    joined = b"".join(content.split())
    start = joined[: HEAD_LIMIT // 4 * 4].rstrip(b"=")
    start += b"=" * (-len(start) % 4)
    try:
        kind = _plain_kind(binascii.a2b_base64(start))
    except binascii.Error:
        return False
    return kind not in (None, "empty")
