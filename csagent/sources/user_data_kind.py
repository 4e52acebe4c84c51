"""What a piece of user-data seems to be. Pure; the content itself is never changed.

The kinds are what cloud-init's parser makes of the first bytes, so that a document means here what it means
there. A header counts after white space, in upper or lower case, and as a prefix only: `#cloud-config: mine`
is a cloud-config, and so is `#cloud-configuration`. The longest header that fits is the one.

    empty         nothing, or blank
    gzip          by its magic number
    script        ``#!``
    cloud-config  ``#cloud-config``
    archive       ``#cloud-config-archive``
    json-patch    ``#cloud-config-jsonp``
    boothook      ``#cloud-boothook``
    include       ``#include``, ``#include-once``
    part-handler  ``#part-handler``
    jinja         ``## template: jinja``; what is behind the header is for the template to say
    multipart     a MIME message, of one part or several
    base64        text that is base64 of one of the above (users encode twice, #8791)
    unknown       anything else
"""

from __future__ import annotations

import re
from typing import Optional

from csagent.model import Secret, UserData

HEADERS = (
    ("#cloud-config-archive", "archive"),
    ("#cloud-config-jsonp", "json-patch"),
    ("## template: jinja", "jinja"),
    ("#cloud-boothook", "boothook"),
    ("#part-handler", "part-handler"),
    ("#cloud-config", "cloud-config"),
    ("#include-once", "include"),
    ("#include", "include"),
    ("#!", "script"),
)
"""The longest first, as they are looked for."""

KINDS = (
    "script",
    "cloud-config",
    "archive",
    "json-patch",
    "boothook",
    "include",
    "part-handler",
    "multipart",
    "gzip",
    "base64",
    "jinja",
    "unknown",
    "empty",
)

GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952: magic, and the only method there is
MIME_HEAD = 4096  # bytes in which cloud-init looks for the mark of a message
BASE64_HEAD = 16 * 1024

_FIELD = re.compile(
    rb"(?:From |[!-9;-~]*:|[\t ])"
)  # the first line of a header block, as Python's email takes it
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}\Z")


def classify(content: bytes) -> str:
    """Name the kind of some user-data: one of `KINDS`."""
    return _plain_kind(content) or ("base64" if _is_base64(content) else "unknown")


def describe(content: bytes) -> UserData:
    """The user-data with its kind, its size in bytes, and the sha256 of the raw bytes (hexadecimal)."""
    import hashlib

    return UserData(Secret(content), classify(content), len(content), hashlib.sha256(content).hexdigest())


def header_kind(text: str) -> Optional[str]:
    """The kind that the first words of a text name; None where they name none."""
    start = text.lstrip()[:64].lower()
    return next((kind for header, kind in HEADERS if start.startswith(header)), None)


def is_message(content: bytes) -> bool:
    """Whether it is read as a MIME message: the mark is in the head, and a header block stands in front.

    Without such a block Python's email takes all of it for the body of one part, so that a script that only
    writes a message is a script.
    """
    return b"mime-version:" in content[:MIME_HEAD].lower() and _FIELD.match(content) is not None


def _plain_kind(content: bytes) -> Optional[str]:
    if content.startswith(GZIP_MAGIC):
        return "gzip"
    if is_message(content):
        return "multipart"
    text = content.decode("utf-8", "surrogateescape")
    if not text.strip():
        return "empty"
    return header_kind(text)


def _is_base64(content: bytes) -> bool:
    """Whether this is text whose beginning decodes to something that we know."""
    import binascii

    content = content.strip()
    if len(content) < 8 or not _BASE64.match(content):
        return False
    joined = b"".join(content.split())
    start = joined[: BASE64_HEAD // 4 * 4].rstrip(b"=")
    start += b"=" * (-len(start) % 4)
    try:
        kind = _plain_kind(binascii.a2b_base64(start))
    except binascii.Error:
        return False
    return kind not in (None, "empty")
