"""All keys of a cloud-config made into steps: by each family's own module, and what nobody knows is named."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Dict, List, Tuple

from csagent.user_data.cloud_config.draft import Draft, Family
from csagent.user_data.cloud_config.known import NOT_HERE, REFUSED
from csagent.user_data.merging import KEYS as MERGE_KEYS
from csagent.user_data.yaml_lines import Node

FAMILIES = (
    "commands",
    "write_files",
    "disks",
    "grow",
    "mounts",
    "names",
    "system_files",
    "groups",
    "users",
    "ssh",
    "passwords",
    "place",
    "repositories",
    "ntp",
    "packages",
    "ending",
)
"""The modules of this package that have a `FAMILY`; when its steps are done, their places say."""


@cache
def families() -> Tuple[Family, ...]:
    """Every family, in an order that does not matter."""
    modules = [importlib.import_module(f"csagent.user_data.cloud_config.{name}") for name in FAMILIES]
    found: List[Family] = [module.FAMILY for module in modules]
    return tuple(found)


@cache
def known_keys() -> Tuple[str, ...]:
    """Every key that has steps here."""
    return tuple(key for family in families() for key in family.keys)


def plan(draft: Draft) -> None:
    """Fill the draft."""
    asked = set(draft.config.value)
    for family in families():
        if family.always or asked.intersection(family.keys):
            family.plan(draft)
    for key, line in draft.config.keys.items():
        if key not in known_keys() and key not in MERGE_KEYS and key in draft.config.value:
            _unknown(draft, str(key)[:80], line, draft.config.value[key])


def _unknown(draft: Draft, key: str, line: int, node: Node) -> None:
    if key in REFUSED:
        draft.error(key, REFUSED[key], node, line)
    elif key in NOT_HERE:
        draft.warn(key, f"not for csagent: {NOT_HERE[key]}", node, line)
    elif key.startswith("ubuntu_"):
        draft.warn(key, "not for csagent: it is for Ubuntu", node, line)
    else:
        names: Dict[str, None] = dict.fromkeys((*known_keys(), *NOT_HERE))
        draft.warn(key, f"unknown key{draft.nearest(key, tuple(names))}", node, line)
