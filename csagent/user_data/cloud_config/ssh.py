"""ssh_authorized_keys, disable_root, disable_root_opts, ssh_keys, ssh_deletekeys.

See field/user-data#U59, #U60, #U63.
"""

from __future__ import annotations

from typing import Optional

from csagent.model import Secret
from csagent.user_data.cloud_config.accounts import accounts
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.cloud_config.key_lines import key_lines
from csagent.user_data.execute.accounts import LOGIN_AS, login_as
from csagent.user_data.execute.ssh import AuthorizeKeys, HostKey
from csagent.user_data.yaml_lines import Node

KEYS, DISABLE_ROOT, DISABLE_ROOT_OPTS = "ssh_authorized_keys", "disable_root", "disable_root_opts"
HOST_KEYS, DELETE_KEYS = "ssh_keys", "ssh_deletekeys"
TYPES = ("rsa", "dsa", "ecdsa", "ed25519")
ROOT = (DISABLE_ROOT, DISABLE_ROOT_OPTS)
NOBODY = "NONE"  # whom cloud-init tells to log in as where there is no default user


def _plan(draft: Draft) -> None:
    _host_keys(draft)
    node = draft.get(KEYS)
    options = draft.get(DISABLE_ROOT_OPTS)
    wording: Optional[str] = LOGIN_AS if options is None else draft.text(DISABLE_ROOT_OPTS, options)
    disabled_node = draft.get(DISABLE_ROOT)
    disabled = draft.boolean(DISABLE_ROOT, disabled_node, True)
    if node is None or wording is None:
        return
    if isinstance(node.value, str):
        text = 'must be a list: cloud-init does nothing with one text. Put "- " before the key'
        draft.error(KEYS, text, node, draft.line(KEYS))
        return
    keys = key_lines(draft, KEYS, draft.entries(KEYS))
    if not keys:
        return
    user = accounts(draft).default
    nodes = [one for one in (node, disabled_node, options) if one is not None]
    if user is not None:
        draft.step("ssh", KEYS, f"{_count(keys)} for {user}", AuthorizeKeys(user, keys), nodes, id=user)
    if user == "root":
        if disabled_node is not None and disabled:
            draft.warn(DISABLE_ROOT, "root is the account of this machine: its keys work", disabled_node)
        return
    if user is None and draft.facts.user == "root":
        text = 'are for the default user, and users has no entry "default": nobody gets them'
        draft.warn(KEYS, text, node, draft.line(KEYS))
        return
    if user is None and disabled:
        text = 'reach only root, which may not log in with them: users has no entry "default"'
        draft.warn(KEYS, text, node, draft.line(KEYS))
    prefix = login_as(user or NOBODY, "root", wording) if disabled else ""
    told = f"{_count(keys)} for root" + (", which only say who to log in as" if disabled else "")
    draft.step("ssh", KEYS, told, AuthorizeKeys("root", keys, prefix), nodes, id="root", also=ROOT)


def _count(keys: "tuple[str, ...]") -> str:
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"


def _host_keys(draft: Draft) -> None:
    delete = draft.get(DELETE_KEYS)
    if delete is not None and draft.boolean(DELETE_KEYS, delete, True):
        text = "host keys are made anew by csagent-host-keys where a machine is new, not for each instance"
        draft.warn(DELETE_KEYS, text, delete, draft.line(DELETE_KEYS))
    node = draft.get(HOST_KEYS)
    if node is None:
        return
    if not node.is_mapping:
        draft.error(HOST_KEYS, f"must be a mapping, and is {kind_of(node)}", node, draft.line(HOST_KEYS))
        return
    known = [f"{kind}_{what}" for kind in TYPES for what in ("private", "public", "certificate")]
    draft.unknown(HOST_KEYS, node, known)
    for kind in TYPES:
        private, public = _given(draft, node, f"{kind}_private"), _given(draft, node, f"{kind}_public")
        certificate = _given(draft, node, f"{kind}_certificate")
        nodes = [one for name, one in node.value.items() if str(name).startswith(f"{kind}_")]
        if private or public or certificate:
            action = HostKey(kind, private, public, certificate)
            draft.step("ssh", HOST_KEYS, f"the host key {kind}", action, nodes, id=kind)


def _given(draft: Draft, node: Node, name: str) -> Optional[Secret]:
    value = node.get(name)
    if value is None or value.value is None:
        return None
    text = draft.text(HOST_KEYS, value, name)
    return None if text is None else Secret(text.encode())


FAMILY = Family((KEYS, DISABLE_ROOT, DISABLE_ROOT_OPTS, HOST_KEYS, DELETE_KEYS), _plan)
