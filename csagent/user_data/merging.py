"""How a further cloud-config part is merged into those before it: cloud-init's mergers, on nodes.

By default a key of the later part replaces the earlier one. A part says otherwise with `merge_how` (or
`merge_type`) or in a header `Merge-Type` (or `X-Merge-Type`): `list(append)+dict(recurse_array)+str()`, or a
list of `{name: list, settings: [append]}`.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from csagent.errors import DocumentError
from csagent.user_data.yaml_lines import Node

Merger = Tuple[str, Tuple[str, ...]]  # list | dict | str, and its settings

DEFAULT: Tuple[Merger, ...] = (("dict", ("replace",)), ("list", ()), ("str", ()))
HEADERS = ("Merge-Type", "X-Merge-Type")
KEYS = ("merge_how", "merge_type")
DICT_METHODS = ("replace", "no_replace")
LIST_METHODS = ("append", "prepend", "replace", "no_replace")

_WRITTEN = re.compile(r"([a-zA-Z_][A-Za-z0-9_]*)\((.*?)\)\Z")


class Asked(NamedTuple):
    """How a part wants to be merged, and the part without saying so."""

    mergers: Tuple[Merger, ...]
    config: Node


def asked(config: Node, headers: Mapping[str, str]) -> Asked:
    """What a part says of its merging: its own key first, then its headers; else the default.

    Raises:
        DocumentError: it cannot be understood.
    """
    found: List[Merger] = []
    values = dict(config.value)
    for key in KEYS:
        node = values.pop(key, None)
        if node is not None and node.value is not None:
            found += _of_key(node)
            break
    config = config._replace(value=values)
    written = next((headers[name] for name in HEADERS if headers.get(name)), "")
    found += _of_text(written, None)
    return Asked(tuple(found) or DEFAULT, config)


def _of_key(node: Node) -> List[Merger]:
    if isinstance(node.value, str):
        return _of_text(node.value, node.line)
    if not node.is_list:
        raise DocumentError("must be text, or a list of names with their settings", node.line)
    found = []
    for one in node.value:
        if one.is_mapping:
            name, settings = one.get("name"), one.get("settings")
            words: Sequence[Node] = ()
            if settings is not None:
                words = settings.value if settings.is_list else (settings,)
        elif one.is_list and one.value:
            name, words = one.value[0], one.value[1:]
            if len(words) == 1 and words[0].is_list:
                words = words[0].value
        else:
            raise DocumentError("each of its entries is {name: ..., settings: [...]}", one.line)
        if name is None or not isinstance(name.value, str):
            raise DocumentError("an entry without a name", one.line)
        found.append(
            _known(name.value.replace("-", "_").strip(), [str(word.value) for word in words], one.line)
        )
    return found


def _of_text(text: str, line: Optional[int]) -> List[Merger]:
    found = []
    for piece in text.split("+"):
        name = piece.lower().strip().replace("-", "_")
        if not name:
            continue
        match = _WRITTEN.match(name)
        if match is None:
            raise DocumentError(f'"{piece.strip()[:40]}" is not written as list(append)', line)
        settings = [word.strip() for word in match.group(2).split(",") if word.strip()]
        found.append(_known(match.group(1), settings, line))
    return found


def _known(name: str, settings: Sequence[str], line: Optional[int]) -> Merger:
    name = name[2:] if name.startswith("m_") else name
    if name not in ("list", "dict", "str"):
        raise DocumentError(f'no way of merging is called "{name[:40]}" (there are list, dict and str)', line)
    return name, tuple(settings)


def merge(earlier: Node, later: Node, mergers: Sequence[Merger]) -> Node:
    """The two as one. Nodes of either stay as they are."""
    return _Merging(mergers).merge(earlier, later)


class _Merging:
    def __init__(self, mergers: Sequence[Merger]) -> None:
        self._by_name: Dict[str, Sequence[str]] = {}
        for name, settings in mergers:
            self._by_name.setdefault(name, settings)
        kinds: Tuple[Tuple[type, str, Callable[[Node, Node, Sequence[str]], Node]], ...] = (
            (dict, "dict", self._dict),
            (list, "list", self._list),
            (str, "str", self._str),
        )
        self._kinds = kinds

    def merge(self, earlier: Node, later: Node) -> Node:
        """By the kind of the earlier value; one that nobody merges stays as it is."""
        for kind, name, way in self._kinds:
            if isinstance(earlier.value, kind) and name in self._by_name:
                return way(earlier, later, self._by_name[name])
        return earlier

    def _inner(
        self, earlier: Node, later: Node, settings: Sequence[str], dicts: bool, otherwise: Node
    ) -> Node:
        """What becomes of one value inside; `otherwise` where the settings do not reach into it."""
        lists = "recurse_array" in settings or "recurse_list" in settings
        reach = (
            (later.is_list and lists)
            or (isinstance(later.value, str) and "recurse_str" in settings)
            or (later.is_mapping and dicts)
        )
        return self.merge(earlier, later) if reach else otherwise

    def _dict(self, earlier: Node, later: Node, settings: Sequence[str]) -> Node:
        if not later.is_mapping:
            return earlier
        method = next((word for word in DICT_METHODS if word in settings), "no_replace")
        values, keys = dict(earlier.value), dict(earlier.keys)
        for key, new in later.value.items():
            if key not in values:
                values[key], keys[key] = new, later.keys[key]
            elif new.value is None and "allow_delete" in settings:
                del values[key], keys[key]
            elif method == "replace":
                values[key], keys[key] = new, later.keys[key]
            else:
                old = values[key]
                values[key] = self._inner(old, new, settings, True, old)
                if values[key] is not old:
                    keys[key] = later.keys[key]
        return earlier._replace(value=values, keys=keys)

    def _list(self, earlier: Node, later: Node, settings: Sequence[str]) -> Node:
        method = next((word for word in LIST_METHODS if word in settings), "replace")
        if not later.is_list:
            if method == "replace":
                return later
            if method == "no_replace":
                return earlier
            raise DocumentError(f"a list cannot be merged ({method}) with what is none", later.line)
        old: List[Any] = earlier.value
        new: List[Any] = later.value
        if method == "prepend":
            return earlier._replace(value=[*new, *old])
        if method == "append":
            return earlier._replace(value=[*old, *new])
        merged = list(old)
        if method == "replace":
            for number in range(min(len(old), len(new))):
                inner = self._inner(
                    old[number], new[number], settings, "recurse_dict" in settings, new[number]
                )
                merged[number] = inner
        return earlier._replace(value=merged)

    def _str(self, earlier: Node, later: Node, settings: Sequence[str]) -> Node:
        if "append" not in settings:
            return later
        if not isinstance(later.value, str):
            raise DocumentError("text cannot be joined with what is none", later.line)
        return earlier._replace(value=earlier.value + later.value)
