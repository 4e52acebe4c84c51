"""Why a document without a header that counts is not run: what it is one character from, or whose it is."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple, Optional

from csagent.sources.user_data_kind import GZIP_MAGIC, classify

HEAD = 4096
NOT_RUN = "no header that says what it is: kept for programs that read it themselves, not run"

_BLANK_MISSES = (
    (re.compile(r"#\s+cloud-(config|boothook)", re.IGNORECASE), '"#cloud-{0}" is written without a blank'),
    (
        re.compile(r"#+\s*template\s*:\s*jinja", re.IGNORECASE),
        'a template begins with exactly "## template: jinja"',
    ),
    (re.compile(r"#\s+!\s*/"), 'a script begins with exactly "#!"'),
    (re.compile(r"#cloud[_ ]config|#cloudconfig", re.IGNORECASE), 'the header is "#cloud-config"'),
    (re.compile(r"#\s+include", re.IGNORECASE), 'the header is "#include"'),
)
_MIME_FIELD = re.compile(rb"content-type\s*:\s*(multipart/|text/)", re.IGNORECASE)


class NearMiss(NamedTuple):
    """What an unknown document is. `refused`: its author meant it to run; else it is somebody else's."""

    text: str
    refused: bool


def near_miss(content: bytes) -> NearMiss:
    """Look at the beginning of a document that has no header."""
    text = content[:HEAD].decode("utf-8", "replace")
    meant = _meant_to_run(content, text)
    if meant is not None:
        return NearMiss(meant, True)
    return NearMiss(NOT_RUN, False)


def _meant_to_run(content: bytes, text: str) -> Optional[str]:
    if content.startswith(b"\xef\xbb\xbf"):
        known = classify(content[3:HEAD]) not in ("unknown", "empty")
        return "a byte order mark stands before its header: save it as UTF-8 without one" if known else None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16: save it as UTF-8 without a byte order mark"
    if content.startswith(GZIP_MAGIC):
        return "gzip twice: it is unpacked once"
    start = text.lstrip()
    lower = start.lower()
    for pattern, said in _BLANK_MISSES:
        match = pattern.match(start)
        if match is not None:
            return said.format(*(group.lower() for group in match.groups()))
    if lower.startswith(("#ps1", "<powershell", "#ps1_sysnative", "rem cmd", "<script")):
        return "PowerShell or a batch file: for Windows"
    if lower.startswith("{") and re.match(r'\{\s*"ignition"\s*:', lower):
        return "Ignition: for Fedora CoreOS and Flatcar"
    if _MIME_FIELD.match(content):
        return "a Content-Type without MIME-Version: 1.0, which makes a message of it"
    return _encoded(content)


def _encoded(content: bytes) -> Optional[str]:
    if classify(content) != "base64":
        return None
    joined = b"".join(content.split())[:64]
    try:
        inner = binascii.a2b_base64(joined[: len(joined) // 4 * 4])
    except binascii.Error:
        inner = b""
    what = "gzip" if inner.startswith(GZIP_MAGIC) else "a document"
    return f"base64 of {what}: it was encoded once more than CloudStack decodes"
