"""groups: made before the users, with members that exist."""

from __future__ import annotations

from typing import Dict, List, Tuple

from csagent.user_data.cloud_config.accounts import accounts
from csagent.user_data.cloud_config.draft import ACCOUNT, Draft, Family, kind_of
from csagent.user_data.execute.accounts import AddGroup
from csagent.user_data.yaml_lines import Node

GROUPS = "groups"


def _plan(draft: Draft) -> None:
    node = draft.get(GROUPS)
    if node is None:
        return
    wanted: Dict[str, Tuple[Node, List[str]]] = {}
    made = {entry.name for entry in accounts(draft).entries}
    for name, members, at in _group_entries(draft, node):
        if not ACCOUNT.match(name):
            draft.error(GROUPS, f'"{name[:60]}" cannot be the name of a group', at)
            continue
        for member in members:
            if member in made:
                text = (
                    f"{name}: groups are made before the users: put {member[:60]} into it by its own groups"
                )
                draft.warn(GROUPS, text, at)
        wanted.setdefault(name, (at, []))[1].extend(members)
    for name, (at, listed) in wanted.items():
        told = f"group {name}" + (f", with {', '.join(listed)}" if listed else "")
        draft.step("groups", GROUPS, told, AddGroup(name, tuple(dict.fromkeys(listed))), [at], id=name)


def _group_entries(draft: Draft, node: Node) -> List[Tuple[str, Tuple[str, ...], Node]]:
    if isinstance(node.value, str):
        return [(name.strip(), (), node) for name in node.value.split(",") if name.strip()]
    if not node.is_list and not node.is_mapping:
        draft.error(GROUPS, f"must be a list, and is {kind_of(node)}", node, draft.line(GROUPS))
        return []
    found: List[Tuple[str, Tuple[str, ...], Node]] = []
    for number, one in enumerate(node.value if node.is_list else [node], 1):
        if isinstance(one.value, str):
            found.append((one.value.strip(), (), one))
        elif one.is_mapping:
            for name, members in sorted(one.value.items(), key=lambda item: str(item[0])):  # as there
                words = [] if members.value is None else draft.words(GROUPS, members, str(name)[:60])
                if words is not None:
                    found.append((str(name), tuple(str(word.value) for word in words), one))
        else:
            draft.error(GROUPS, f"entry {number}: must be a name or a mapping, and is {kind_of(one)}", one)
    return found


FAMILY = Family((GROUPS,), _plan)
