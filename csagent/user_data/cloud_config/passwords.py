"""password, chpasswd and ssh_pwauth (field/user-data#U57 to #U62)."""

from __future__ import annotations

import re
from typing import List, Optional

from csagent.model import Secret
from csagent.user_data.cloud_config.accounts import accounts
from csagent.user_data.cloud_config.draft import FALSE, TRUE, Draft, Family, kind_of
from csagent.user_data.execute.passwords import PasswordLogins, SetPassword
from csagent.user_data.yaml_lines import Node

PASSWORD, CHPASSWD, SSH_PWAUTH = "password", "chpasswd", "ssh_pwauth"
RANDOM = ("R", "RANDOM")
_HASH = re.compile(r"\$(1|2a|2y|5|6)(\$.+){2}")


def _plan(draft: Draft) -> None:
    expire = True
    given = 0
    node = draft.get(CHPASSWD)
    if node is not None and not node.is_mapping:
        draft.error(CHPASSWD, f"must be a mapping, and is {kind_of(node)}", node, draft.line(CHPASSWD))
    elif node is not None:
        draft.unknown(CHPASSWD, node, ("expire", "list", "users"))
        expire = draft.boolean(CHPASSWD, node.get("expire"), True, "expire")
        given = _listed(draft, node, expire) + _users(draft, node, expire)
    password = draft.get(PASSWORD)
    if password is not None:
        _default_users(draft, password, expire, given)
    _pwauth(draft)


def _listed(draft: Draft, chpasswd: Node, expire: bool) -> int:
    """The entries `user:secret`; how many there are."""
    node = chpasswd.get("list")
    if node is None or not node.value:
        return 0
    if isinstance(node.value, str):
        lines = [
            node._replace(value=line, line=node.line + 1 + at)
            for at, line in enumerate(node.value.splitlines())
        ]
    elif node.is_list:
        lines = list(node.value)
    else:
        draft.error(CHPASSWD, f"list must be lines such as user:password, and is {kind_of(node)}", node)
        return 0
    count = 0
    for number, line in enumerate(lines, 1):
        text = line.value if isinstance(line.value, str) else ""
        if isinstance(node.value, str) and not text.strip():
            continue
        name, colon, secret = text.partition(":")
        if not colon or not name.strip():
            draft.error(CHPASSWD, f"list, entry {number}: must be written as user:password", line)
            continue
        count += 1
        hashed = _HASH.match(secret) is not None and ":" not in secret
        value = None if secret in RANDOM else secret
        _step(draft, CHPASSWD, name.strip(), value, hashed, expire, [line])
    return count


def _users(draft: Draft, chpasswd: Node, expire: bool) -> int:
    node = chpasswd.get("users")
    if node is None or node.value is None:
        return 0
    if not node.is_list:
        draft.error(CHPASSWD, f"users must be a list, and is {kind_of(node)}", node)
        return 0
    count = 0
    for number, one in enumerate(node.value, 1):
        where = f"users, entry {number}"
        name = one.get("name")
        if name is None or not isinstance(name.value, str) or not name.value:
            draft.error(CHPASSWD, f"{where}: must be a mapping with a name", one)
            continue
        draft.unknown(CHPASSWD, one, ("name", "password", "type"), where)
        kind_node, password = one.get("type"), one.get("password")
        kind = kind_node.value if kind_node is not None and kind_node.value is not None else "hash"
        if kind not in ("hash", "text", "RANDOM"):
            draft.error(CHPASSWD, f"{where}: type must be hash, text or RANDOM", kind_node or one)
            continue
        value = None if password is None or password.value is None else draft.text(CHPASSWD, password, where)
        if kind != "RANDOM" and value is None:
            draft.error(CHPASSWD, f"{where}: has no password", one)
            continue
        count += 1
        _step(draft, CHPASSWD, name.value, None if kind == "RANDOM" else value, kind == "hash", expire, [one])
    return count


def _default_users(draft: Draft, node: Node, expire: bool, given: int) -> None:
    secret = draft.text(PASSWORD, node)
    if not secret:
        return
    if given:
        draft.warn(PASSWORD, "is passed over beside the entries of chpasswd", node, draft.line(PASSWORD))
        return
    name = accounts(draft).default
    if name is None:
        text = 'is for the default user, and users has no entry "default": nothing is done with it'
        draft.warn(PASSWORD, text, node, draft.line(PASSWORD))
        return
    hashed = _HASH.match(secret) is not None and ":" not in secret
    value = None if secret in RANDOM else secret
    _step(draft, PASSWORD, name, value, hashed, expire, [node])


def _step(
    draft: Draft, key: str, name: str, value: Optional[str], hashed: bool, expire: bool, nodes: List[Node]
) -> None:
    if value is not None and any(character in value for character in "\n\0"):
        draft.error(key, f"{name[:60]}: a password of several lines", nodes[0])
        return
    kind = "a random password, shown on the console" if value is None else "a password"
    text = f"{kind} for {name[:60]}" + (", to be changed at the first login" if expire else "")
    secret = None if value is None else Secret(value.encode("utf-8", "surrogateescape"))
    action = SetPassword(name, secret, hashed, expire)
    draft.step("passwords", key, text, action, nodes, id=name[:60], also=(CHPASSWD,))


def _pwauth(draft: Draft) -> None:
    node = draft.get(SSH_PWAUTH)
    if node is None:
        return
    text = str(node.value).strip().lower() if not isinstance(node.value, (list, dict)) else ""
    if text == "unchanged":
        return
    if text not in TRUE and text not in FALSE:
        draft.warn(SSH_PWAUTH, "must be true or false: sshd is left as it is", node)
        return
    allowed = text in TRUE
    told = f"sshd {'takes' if allowed else 'takes no'} passwords"
    draft.step("passwords", SSH_PWAUTH, told, PasswordLogins(allowed), [node])


FAMILY = Family((PASSWORD, CHPASSWD, SSH_PWAUTH), _plan)
