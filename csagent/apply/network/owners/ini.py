"""Files of sections and KEY=VALUE lines: systemd's (systemd.syntax(7)) and NetworkManager's keyfiles."""

from __future__ import annotations

from typing import List, NamedTuple


class Entry(NamedTuple):
    """One line, in order: sections and keys may be repeated."""

    section: str
    key: str
    value: str


def parse(text: str) -> List[Entry]:
    """All entries; what is none is left out. A backslash at its end continues a line."""
    found: List[Entry] = []
    section = ""
    pending = ""
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            found.append(Entry(section, key.strip(), value.strip()))
    return found


def values(entries: List[Entry], section: str, key: str) -> List[str]:
    """What is assigned to a key of a section; an empty assignment takes back those before it."""
    found: List[str] = []
    for entry in entries:
        if entry.section == section and entry.key == key:
            if entry.value:
                found.append(entry.value)
            else:
                found.clear()
    return found


def last(entries: List[Entry], section: str, key: str) -> str:
    """The last word; empty where there is none."""
    return (values(entries, section, key) or [""])[-1]
