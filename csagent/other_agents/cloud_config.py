"""The few keys of cloud-init's configuration that say who does what."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

Configuration = Dict[str, Any]

_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")


def load(text: Optional[str]) -> Configuration:
    """A file's mapping; empty where it has none: cloud-init passes over what it cannot read, too."""
    if not text:
        return {}
    try:
        import yaml
    except ImportError:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text, Loader=loader)  # noqa: S506  # safe, and in C where libyaml is there
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def merge(before: Mapping[str, Any], later: Mapping[str, Any]) -> Configuration:
    """Both, where the last word counts, key by key in a mapping of mappings."""
    merged = dict(before)
    for key, value in later.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def flag(said: Mapping[str, Any], key: str, default: bool) -> bool:
    """A switch, by the words that cloud-init takes for yes and no."""
    word = str(said.get(key, "")).lower()
    return word in _TRUE or (default and word not in _FALSE)


def entries(said: Mapping[str, Any], key: str) -> List[Tuple[str, ...]]:
    """A list's items, each as its words: ("ssh",), or ("ssh", "always") for a list in the list."""
    listed = said.get(key)
    found = []
    for item in listed if isinstance(listed, list) else [listed]:
        words = tuple(str(word) for word in (item if isinstance(item, list) else [item]) if word is not None)
        if words and all(words):
            found.append(words)
    return found


def default_user(said: Mapping[str, Any]) -> Optional[str]:
    """system_info.default_user.name, None where it is not said."""
    value: Any = said
    for key in ("system_info", "default_user", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
