"""Who the document makes: users, user and system_info.default_user merged and named as cloud-init does it."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

from csagent.user_data.cloud_config.draft import Draft, kind_of
from csagent.user_data.surroundings import Facts
from csagent.user_data.yaml_lines import Node

USERS, USER, SYSTEM_INFO = "users", "user", "system_info"
DEFAULT = "default"
IMAGE_GROUPS = {
    "debian": ("adm", "audio", "cdrom", "dialout", "dip", "floppy", "netdev", "plugdev", "sudo", "video"),
    "redhat": ("wheel", "adm", "systemd-journal"),
}
LEFT_ALONE = ("left alone",)  # what the image says of the password of root
SUDO_ALL = ("ALL=(ALL) NOPASSWD:ALL",)


def image_groups(facts: Facts) -> Tuple[str, ...]:
    """The groups that cloud images give their user; Debian's have no netdev since 13."""
    groups = IMAGE_GROUPS.get(facts.family, ())
    release = facts.version.partition(".")[0]
    if facts.distribution == "debian" and release.isdigit() and int(release) >= 13:
        return tuple(name for name in groups if name != "netdev")
    return groups


class Entry(NamedTuple):
    """One account of the document: its settings by the name with underscores, and where it stands.

    `joins`: groups that it gets besides its own.
    """

    name: str
    values: Dict[str, Node]
    keys: Dict[str, int]
    node: Node
    joins: Tuple[Node, ...] = ()

    def get(self, key: str) -> Optional[Node]:
        """A setting; None where it is missing or null."""
        node = self.values.get(key)
        return None if node is None or node.value is None else node


class Accounts(NamedTuple):
    """Who is made: the default user last, as in cloud-init. `default` is its name; None: there is none."""

    entries: Tuple[Entry, ...]
    default: Optional[str]
    implied: bool  # the document does not speak of users at all


def accounts(draft: Draft, complain: bool = False) -> Accounts:
    """The accounts that the document asks for, merged and named as cloud-init does it."""
    said = USERS in draft.config.value
    found: Dict[str, Entry] = {}
    wanted = _listed(draft, complain) if said else [_plain(DEFAULT, draft.config)]
    old = _old_user(draft, complain)
    if old is not None:
        wanted.append(_plain(DEFAULT, old.node))
    for one in wanted:
        known = found.get(one.name)
        if known is not None:
            one = one._replace(
                values={**one.values, **known.values}, keys={**one.keys, **known.keys}, node=known.node
            )
        found[one.name] = one
    if DEFAULT not in found:
        return Accounts(tuple(found.values()), None, False)
    asked = found.pop(DEFAULT)
    image = _image_user(draft, old)
    own = found.pop(image.name, None)
    if image.name == "root" and own is None:
        image.values.setdefault("lock_passwd", Node(LEFT_ALONE, asked.node.line))
    # What the image says of its user counts first, then what stands at "default", then what at its name.
    values = {**(own.values if own else {}), **asked.values, **image.values}
    keys = {**(own.keys if own else {}), **asked.keys, **image.keys}
    node = own.node if own else asked.node
    joins = () if "groups" in asked.values else image.joins
    entries = (*found.values(), Entry(image.name, values, keys, node, joins))
    return Accounts(entries, image.name, not said and old is None)


def _plain(name: str, node: Node) -> Entry:
    return Entry(name, {}, {}, node)


def _listed(draft: Draft, complain: bool) -> List[Entry]:
    node = draft.get(USERS)
    if node is None:
        return []
    if isinstance(node.value, str):
        return _names(node._replace(value=",".join(sorted(node.value.split(",")))))  # as cloud-init has them
    if node.is_mapping:
        return _mapped(draft, node, complain)
    if not node.is_list:
        if complain:
            draft.error(
                USERS, f"must be a list, and is {kind_of(node)}: nothing of it runs", node, draft.line(USERS)
            )
        return []
    found: List[Entry] = []
    for number, one in enumerate(node.value, 1):
        if isinstance(one.value, str):
            found += [entry for entry in _names(one) if entry.name not in {known.name for known in found}]
        elif one.is_mapping:
            found.append(_settings(one, DEFAULT))
        elif complain:
            what = "a list; write each name as an entry of its own" if one.is_list else kind_of(one)
            draft.error(USERS, f"entry {number}: must be a name or a mapping, and is {what}", one)
    return found


def _names(node: Node) -> List[Entry]:
    return [_plain(name.strip(), node) for name in str(node.value).split(",") if name.strip()]


def _mapped(draft: Draft, node: Node, complain: bool) -> List[Entry]:
    """The old form: a mapping of names to settings, or to true."""
    found = []
    for name, one in sorted(node.value.items(), key=lambda item: str(item[0])):  # as cloud-init sorts them
        if one.is_mapping:
            found.append(_settings(one, str(name))._replace(name=str(name)))
        elif one.is_list or one.value is None:
            if complain:
                draft.error(
                    USERS, f"{str(name)[:60]}: must be a mapping, and is {kind_of(one)}", one, node.keys[name]
                )
        elif draft.boolean(USERS, one, False, str(name)[:60]):
            found.append(_plain(str(name), one))
    return found


def _settings(node: Node, name: str) -> Entry:
    values, keys = {}, {}
    for key, value in node.value.items():
        short = str(key).replace("-", "_").strip()
        values[short], keys[short] = value, node.keys[key]
    given = values.pop("name", None)
    if given is not None and given.value is not None:
        name = given.value if isinstance(given.value, str) else given.text or str(given.value)
    return Entry(name, values, keys, node)


def _old_user(draft: Draft, complain: bool) -> Optional[Entry]:
    node = draft.get(USER)
    if node is None or not node.value:
        return None
    if isinstance(node.value, str):
        return _plain(node.value, node)
    if node.is_mapping:
        return _settings(node, "")
    if complain:
        draft.error(USER, f"must be a name or a mapping, and is {kind_of(node)}", node)
    return None


def _image_user(draft: Draft, old: Optional[Entry]) -> Entry:
    """The account that the image brings: the setting `user`, or what the document calls it."""
    info = draft.get(SYSTEM_INFO)
    given = info.get("default_user") if info is not None else None
    asked = _settings(given, "") if given is not None and given.is_mapping else None
    values: Dict[str, Node] = {}
    keys: Dict[str, int] = {}
    for entry in (asked, old):
        if entry is not None:
            values.update(entry.values)
            keys.update(entry.keys)
    name = (old.name if old else "") or (asked.name if asked else "") or draft.facts.user
    node = (old or asked or _plain("", draft.config)).node
    groups = values.pop("groups", None)
    keys.pop("groups", None)
    if name == "root":
        return Entry(name, values, keys, node, (groups,) if groups is not None else ())
    if groups is None:
        usual = image_groups(draft.facts)
        groups = node._replace(value=[node._replace(value=one) for one in usual])
    for key, value in (
        ("gecos", (draft.facts.user if draft.facts.user != "root" else name).capitalize()),
        ("shell", "/bin/bash"),
        ("sudo", SUDO_ALL),
        ("lock_passwd", True),
    ):
        values.setdefault(key, node._replace(value=value, text=str(value)))
    return Entry(name, values, keys, node, (groups,))
