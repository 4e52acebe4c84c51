"""The few top-level keys of cloud-init's configuration that say who does what, read by lines, not as YAML.

cloud-init's own ds-identify reads it by lines too. What is not understood is taken for not said.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Optional, Tuple

Said = Dict[str, List[str]]

_KEY = re.compile(r"""(["']?)([A-Za-z_][\w-]*)\1[ \t]*:(?:[ \t]+(.*))?\Z""", re.ASCII)
_ITEM = re.compile(r"([ \t]*)-[ \t]+(\S.*)\Z")
_NAME = re.compile(r"""[ \t]*(["']?)name\1[ \t]*:[ \t]+["']?([A-Za-z_][A-Za-z0-9_.-]{0,31})""", re.ASCII)
_FLOW_NAME = re.compile(
    r"default_user[\"']?\s*:\s*\{[^}]*?\bname[\"']?\s*:\s*[\"']?([A-Za-z_][\w.-]{0,31})", re.ASCII
)
_DEFAULT_USER = re.compile(r"""([ \t]+)(["']?)default_user\2[ \t]*:""")
_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")


def top_level(text: str) -> Said:
    """Each top-level key with the rest of its line (maybe "") and the lines that belong to it."""
    said: Said = {}
    current: Optional[List[str]] = None
    for raw in text.split("\n"):
        line = _without_comment(raw).rstrip()
        if not line:
            continue
        match = _KEY.match(line)
        if match:
            current = said[match.group(2)] = [(match.group(3) or "").strip()]
        elif line[0] in " \t-]" and not line.startswith("---"):
            if current is not None:
                current.append(line)
        else:
            current = None
    return said


def _without_comment(line: str) -> str:
    if line.lstrip().startswith("#"):
        return ""
    return line.split(" #", 1)[0]


def flag(said: Said, key: str, default: bool) -> bool:
    """A switch, by the words that cloud-init takes for yes and no."""
    word = said.get(key, [""])[0].strip("\"'").lower()
    return word in _TRUE or (default and word not in _FALSE)


def entries(said: Said, key: str) -> List[Tuple[str, ...]]:
    """A list's items, each as its words: ("ssh",), or ("ssh", "always") for a list in the list."""
    lines = said.get(key, [""])
    flow = lines[0] or (lines[1].lstrip() if len(lines) > 1 else "")
    if flow.startswith("["):
        return [_words(item) for item in _flow(" ".join(lines).strip()) if _words(item)]
    found: List[Tuple[str, ...]] = []
    depth: Optional[int] = None
    for line in lines[1:]:
        match = _ITEM.match(line)
        if match and depth in (None, len(match.group(1))):
            depth = len(match.group(1))
            words = _words(match.group(2))
            if words:
                found.append(words)
    return found


def _flow(text: str) -> Iterator[str]:
    """The items of `[a, [b, c], d]`."""
    depth, item = 0, ""
    for char in text:
        if char == "[":
            depth += 1
            if depth == 1:
                continue
        elif char == "]":
            depth -= 1
            if depth == 0:
                break
        if char == "," and depth == 1:
            yield item
            item = ""
        else:
            item += char
    yield item


def _words(item: str) -> Tuple[str, ...]:
    words = item.strip().strip("[]").split(",")
    return tuple(word for word in (one.strip().strip("\"'") for one in words) if word)


def default_user(said: Said) -> Optional[str]:
    """system_info.default_user.name, None where it is not said."""
    lines = said.get("system_info", [])
    inside: Optional[int] = None
    for line in lines:
        flow = _FLOW_NAME.search(line)
        if flow:
            return flow.group(1)
        indent = len(line) - len(line.lstrip())
        if inside is not None and indent <= inside:
            inside = None
        match = _DEFAULT_USER.match(line)
        if match:
            inside = len(match.group(1))
        elif inside is not None:
            name = _NAME.match(line)
            if name:
                return name.group(2)
    return None
