"""users and user: accounts, and what each of them gets (field/user-data#U55 to #U58)."""

from __future__ import annotations

from typing import Optional, Tuple

from csagent.model import Secret
from csagent.user_data.cloud_config.accounts import (
    DEFAULT,
    LEFT_ALONE,
    SYSTEM_INFO,
    USER,
    USERS,
    Entry,
    accounts,
)
from csagent.user_data.cloud_config.draft import ACCOUNT, Draft, Family, kind_of
from csagent.user_data.cloud_config.key_lines import key_lines
from csagent.user_data.execute.accounts import AddUser
from csagent.user_data.yaml_lines import Node

SWITCHES = ("system", "no_create_home", "no_user_group", "no_log_init")
TEXTS = ("gecos", "homedir", "primary_group", "shell", "uid", "expiredate", "inactive", "selinux_user")
PASSWORDS = ("passwd", "hashed_passwd", "plain_text_passwd")
KNOWN = (
    *("name", "groups", "lock_passwd", "sudo", "ssh_authorized_keys", "ssh_redirect_user", "create_groups"),
    *(*SWITCHES, *TEXTS, *PASSWORDS),
)
NOT_HERE = {
    "ssh_import_id": "fetches keys from Launchpad or GitHub: give them in ssh_authorized_keys",
    "snapuser": "is for Ubuntu Core",
    "doas": "sudo is what is set up here",
}


def _plan(draft: Draft) -> None:
    info = draft.get(SYSTEM_INFO)
    if info is not None:
        draft.unknown(SYSTEM_INFO, info, ("default_user",), "only default_user has a meaning here")
    known = accounts(draft, complain=True)
    for entry in known.entries:
        default = entry.name == known.default
        if default and known.implied and (not draft.facts.create_user or draft.facts.user == "root"):
            continue
        _user(draft, entry, default=default, implied=known.implied)


def _user(draft: Draft, entry: Entry, *, default: bool, implied: bool) -> None:
    where = entry.name[:60]
    if not ACCOUNT.match(entry.name):
        draft.error(USERS, f'"{where}" cannot be the name of an account', entry.node)
        return
    for key, line in entry.keys.items():
        if key in NOT_HERE:
            draft.warn(USERS, f"{where}: {key} {NOT_HERE[key]}", entry.values[key], line)
    others = {key: node for key, node in entry.values.items() if key not in NOT_HERE}
    lines = {key: entry.keys.get(key, entry.node.line) for key in others}
    draft.unknown(USERS, Node(others, 0, keys=lines), KNOWN, where)
    if "snapuser" in entry.values:
        draft.error(USERS, f"{where}: an account of Ubuntu Core's is not made here", entry.node)
        return
    builder = _Builder(draft, entry, where)
    action = builder.action(default=default, implied=implied)
    if action is not None:
        key = USERS if draft.get(USERS) is not None or draft.get(USER) is None else USER
        nodes = [] if implied else [entry.node]
        draft.step("users", key, builder.told(action), action, nodes, id=entry.name)


class _Builder:
    """One account of the document made into an action; what is wrong with it is said on the way."""

    def __init__(self, draft: Draft, entry: Entry, where: str) -> None:
        self._draft = draft
        self._entry = entry
        self._where = where

    def action(self, *, default: bool, implied: bool) -> Optional[AddUser]:
        entry = self._entry
        switches = tuple(key for key in SWITCHES if self._switch(key))
        keys = self._keys()
        redirect = self._redirect(keys)
        if (keys or redirect) and {"system", "no_create_home"} & set(switches):
            self._error("an account without a home directory can have no SSH keys: it is not made")
            return None
        groups = self._group_names()
        sudo = self._sudo()
        if groups is None or sudo is None:
            return None
        alone = entry.get("lock_passwd") is not None and entry.values["lock_passwd"].value == LEFT_ALONE
        lock = None if alone else self._switch("lock_passwd", True)
        texts = {key: text for key in TEXTS for text in (self._text(key),) if text}
        passwords = {key: Secret(text.encode()) for key in PASSWORDS for text in (self._text(key),) if text}
        return AddUser(
            entry.name,
            texts=texts,
            switches=switches,
            groups=groups,
            create_groups=self._switch("create_groups", True),
            lock=lock,
            sudo=sudo,
            keys=keys,
            redirect_to=redirect,
            passwd=passwords.get("passwd"),
            hashed=passwords.get("hashed_passwd"),
            plain=passwords.get("plain_text_passwd"),
            only_new=implied,
            may_make=not default or self._may_make(),
        )

    def _may_make(self) -> bool:
        """Whether a default user that is missing is made: the setting, or the document names it itself."""
        named = self._draft.get(USER) is not None or self._draft.get(SYSTEM_INFO) is not None
        return self._draft.facts.create_user or named

    def told(self, action: AddUser) -> str:
        words = [f"account {action.name}"]
        words += [f"groups {', '.join(action.groups)}"] if action.groups else []
        words += [f"shell {action.texts['shell']}"] if "shell" in action.texts else []
        words += ["sudo"] if action.sudo else []
        words += [f"{len(action.keys)} key{'' if len(action.keys) == 1 else 's'}"] if action.keys else []
        words += ["a password"] if action.passwd or action.hashed or action.plain else []
        words += ["locked for passwords"] if action.lock and not action.only_new else []
        return ", ".join(words)

    def _error(self, text: str, node: Optional[Node] = None) -> None:
        self._draft.error(USERS, f"{self._where}: {text}", node or self._entry.node)

    def _warn(self, text: str, node: Node) -> None:
        self._draft.warn(USERS, f"{self._where}: {text}", node)

    def _switch(self, key: str, default: bool = False) -> bool:
        return self._draft.boolean(USERS, self._entry.get(key), default, f"{self._where}: {key}")

    def _text(self, key: str) -> str:
        node = self._entry.get(key)
        if node is None or node.value is False:
            return ""
        if isinstance(node.value, (list, dict, bytes, bool)):
            self._warn(f"{key} must be text, and is {kind_of(node)}: passed over", node)
            return ""
        text = node.value if isinstance(node.value, str) else node.text or str(node.value)
        if any(character in text for character in "\0\n") or (key == "gecos" and ":" in text):
            self._warn(f"{key} has a character that it cannot have: passed over", node)
            return ""
        return text

    def _group_names(self) -> Optional[Tuple[str, ...]]:
        own = self._names_of(self._entry.get("groups"))
        more = [self._names_of(node) for node in self._entry.joins]
        if own is None or None in more:
            return None
        joined = [name for names in more for name in names or ()]
        return tuple(sorted({*own, *joined})) if joined else own

    def _names_of(self, node: Optional[Node]) -> Optional[Tuple[str, ...]]:
        """Groups: text with commas, a list, or the keys of a mapping; None for what is none of these."""
        if node is None or node.value in (None, False):
            return ()
        if node.is_mapping:
            return tuple(str(name).strip() for name in node.value)
        words = self._draft.words(USERS, node, f"{self._where}: groups")
        if words is None:
            return None
        if not all(isinstance(word.value, str) for word in words):
            self._error("groups must be names", node)
            return None
        return tuple(word.value.strip() for word in words if word.value.strip())

    def _sudo(self) -> Optional[Tuple[str, ...]]:
        node = self._entry.get("sudo")
        if node is None or node.value is False or node.value == "":
            return ()
        if isinstance(node.value, tuple):
            return node.value
        rules = [node] if isinstance(node.value, str) else node.value if node.is_list else None
        if rules is None or not all(
            isinstance(rule.value, str) and "\n" not in rule.value.strip() for rule in rules
        ):
            self._error(
                f"sudo must be a rule, such as ALL=(ALL) NOPASSWD:ALL, or a list of them, not {kind_of(node)}"
            )
            return None
        return tuple(rule.value.strip() for rule in rules)

    def _keys(self) -> Tuple[str, ...]:
        node = self._entry.get("ssh_authorized_keys")
        if node is None:
            return ()
        values = node.value if node.is_list else list(node.value.values()) if node.is_mapping else [node]
        return key_lines(self._draft, USERS, values, f"{self._where}: ssh_authorized_keys")

    def _redirect(self, keys: Tuple[str, ...]) -> str:
        node = self._entry.get("ssh_redirect_user")
        if node is None or node.value is False:
            return ""
        if node.value not in (True, DEFAULT):
            self._warn("ssh_redirect_user is true or default: passed over", node)
            return ""
        if keys:
            self._warn("ssh_redirect_user beside ssh_authorized_keys: passed over", node)
            return ""
        return accounts(self._draft).default or ""


FAMILY = Family((USERS, USER, SYSTEM_INFO), _plan, always=True)
