"""packages, package_update, package_upgrade, package_reboot_if_required; the old spellings.

See field/user-data#U64, #U80.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.packages import (
    InstallPackages,
    RebootIfRequired,
    RefreshIndex,
    UpgradePackages,
)
from csagent.user_data.yaml_lines import Node

PACKAGES = "packages"
UPDATE = ("package_update", "apt_update")
UPGRADE = ("package_upgrade", "apt_upgrade")
REBOOT = ("package_reboot_if_required", "apt_reboot_if_required")
MANAGERS = {"apt": "debian", "dnf": "redhat", "yum": "redhat"}


def _plan(draft: Draft) -> None:
    family = draft.facts.family
    update, upgrade, reboot = (_asked(draft, keys) for keys in (UPDATE, UPGRADE, REBOOT))
    names, nodes = _names(draft)
    wanted = update or upgrade or ((PACKAGES, nodes) if names else None) or _of_new_sources(draft)
    if wanted is not None:
        key, why = wanted
        draft.step(
            "packages", key, "refresh the package index", RefreshIndex(family), why, id="index", also=UPDATE
        )
    if upgrade is not None:
        draft.step(
            "packages", upgrade[0], "upgrade what is installed", UpgradePackages(family), upgrade[1], id="all"
        )
    if names:
        draft.step("packages", PACKAGES, f"install {', '.join(names)}", InstallPackages(family, names), nodes)
    if reboot is not None and (names or upgrade is not None):
        draft.step("reboot", reboot[0], "reboot, if a package asks for it", RebootIfRequired(), reboot[1])


def _of_new_sources(draft: Draft) -> Optional[Tuple[str, List[Node]]]:
    """The key that adds repositories: scripts install from them without refreshing the index themselves."""
    if draft.facts.family == "redhat":
        return None
    apt, old = draft.get("apt"), draft.get("apt_sources")
    sources = apt.get("sources") if apt is not None else None
    if apt is not None and sources is not None and sources.is_mapping and sources.value:
        return "apt", [apt]
    return ("apt_sources", [old]) if old is not None and old.is_list and old.value else None


def _asked(draft: Draft, keys: Tuple[str, ...]) -> Optional[Tuple[str, List[Node]]]:
    """The first of the spellings that is on, and its value."""
    for key in keys:
        node = draft.get(key)
        if draft.boolean(key, node, False) and node is not None:
            return key, [node]
    return None


def _names(draft: Draft) -> Tuple[Tuple[str, ...], List[Node]]:
    node = draft.get(PACKAGES)
    if node is None:
        return (), []
    if isinstance(node.value, str):
        listed = [node]
    elif node.is_list:
        listed = node.value
    else:
        text = f"must be a list of names, and is {kind_of(node)}: nothing is installed"
        draft.error(PACKAGES, text, node, draft.line(PACKAGES))
        return (), []
    found: List[str] = []
    nodes: List[Node] = []
    for number, one in enumerate(_of_this_family(draft, listed), 1):
        name = _name(draft, one, number)
        if name is not None:
            nodes.append(one)
            if name not in found:
                found.append(name)
    return tuple(found), nodes


def _of_this_family(draft: Draft, listed: List[Node]) -> List[Node]:
    """Entries such as {apt: [...]} taken apart; those for another package manager are named and left out."""
    found: List[Node] = []
    for one in listed:
        if not one.is_mapping:
            found.append(one)
            continue
        for manager, names in one.value.items():
            family = MANAGERS.get(str(manager))
            if family is not None and family == (draft.facts.family or family):
                found += names.value if names.is_list else [names]
            else:
                text = f"the packages of {str(manager)[:40]} are not installed: that is not this machine's"
                draft.warn(PACKAGES, text, one, one.keys[manager])
    return found


def _name(draft: Draft, node: Node, number: int) -> Optional[str]:
    version = ""
    if node.is_list:
        if not 1 <= len(node.value) <= 2 or any(word.is_list or word.is_mapping for word in node.value):
            draft.error(PACKAGES, f"entry {number}: a list of a name and a version", node)
            return None
        words = [word.value if isinstance(word.value, str) else word.text for word in node.value]
        name = words[0]
        version = words[1] if len(words) == 2 and node.value[1].value else ""
    elif isinstance(node.value, str):
        name = node.value.strip()
    else:
        draft.error(PACKAGES, f"entry {number}: must be the name of a package, and is {kind_of(node)}", node)
        return None
    if not name:
        draft.warn(PACKAGES, f"entry {number}: is empty: passed over", node)
        return None
    if name.startswith("-") or not name.isprintable() or not version.isprintable():
        draft.error(PACKAGES, f'entry {number}: "{name[:60]}" cannot be the name of a package', node)
        return None
    if any(character.isspace() for character in name):
        draft.warn(PACKAGES, f'entry {number}: "{name[:60]}" is one name to the package manager', node)
    separator = "-" if draft.facts.family == "redhat" else "="
    return f"{name}{separator}{version}" if version else name


FAMILY = Family((PACKAGES, *UPDATE, *UPGRADE, *REBOOT), _plan, always=True)
