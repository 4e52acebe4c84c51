"""Secrets in running text: what stands beside `password=` and its like, and password hashes anywhere."""

from __future__ import annotations

import re

REDACTED = "redacted"

_WORDS = (
    r"pass(?:word|wd|phrase|code)?|(?:bind)?pw|pwd|psk|secret|token|credentials?"
    r"|(?:api|private|access|secret|auth|encryption)[_-]?key|bearer"
)
# The word may stand in the midst of a name: dbpasswd, token_value. The name's own bounds keep this linear.
_NAME = rf"((?:{_WORDS})[A-Za-z0-9_-]{{0,24}}[\"']?\s{{0,8}}"
_TELLING = re.compile(rf"(?i){_NAME}[:=]\s*)(\S.*)")
_EQUALS = re.compile(rf"(?i){_NAME}=\s*)(\"[^\"]*\"?|'[^']*'?|\S+)")
_COLON = re.compile(rf"(?i){_NAME}:\s+)(\S+)\s*$")
# `--force-password` is csagent's own, and takes nothing.
_GIVEN = re.compile(
    rf"(?i)((?<![\w-])--?(?!force-password)[a-z0-9_-]{{0,24}}(?:{_WORDS})[a-z0-9_-]{{0,24}}\s+|\bbearer\s+)"
    r"(\"[^\"]*\"?|'[^']*'?|\S+)"
)
_SWITCH = re.compile(r"(?i)[\"']?(?:true|false|yes|no|on|off|null|~)[\"']?[,;.]?\s*(?:#.*)?")
_URL_SECRET = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_HASH = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|sha1|md5)\$[A-Za-z0-9./,=$+-]{8,}")


def words(line: str) -> str:
    """A line of a configuration with all that stands behind `password=` and its like taken out."""
    return _TELLING.sub(_unless_switch, _unhashed(line))


def prose(line: str) -> str:
    """A line of a log: `password=X` and `password: X` lose X, but "password: set, and told" is a sentence."""
    line = _EQUALS.sub(_unless_switch, _unhashed(line))
    return _COLON.sub(
        lambda match: match[0] if match[2].isalpha() and match[2].islower() else match[1] + REDACTED, line
    )


def _unhashed(line: str) -> str:
    line = _GIVEN.sub(rf"\1{REDACTED}", line)
    return _HASH.sub(REDACTED, _URL_SECRET.sub(rf"\1:{REDACTED}@", line))


def _unless_switch(match: "re.Match[str]") -> str:
    return match[0] if _SWITCH.fullmatch(match[2]) else match[1] + REDACTED
