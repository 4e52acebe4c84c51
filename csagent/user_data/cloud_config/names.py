"""hostname, fqdn, prefer_fqdn_over_hostname, preserve_hostname and manage_etc_hosts.

See field/user-data#U77, #U78.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from csagent.user_data.cloud_config.draft import FALSE, TRUE, Draft, Family
from csagent.user_data.execute.names import SetHostname, WriteHosts
from csagent.user_data.plan import BOOT
from csagent.user_data.yaml_lines import Node

HOSTNAME, FQDN, PREFER_FQDN = "hostname", "fqdn", "prefer_fqdn_over_hostname"
PRESERVE, HOSTS = "preserve_hostname", "manage_etc_hosts"
NAMES = (HOSTNAME, FQDN, PREFER_FQDN)
NAME_LIMIT = 64  # bytes, of Linux (uname(2))
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z", re.ASCII)


class Names(NamedTuple):
    """What the machine is called: `short` goes to /etc/hostname unless the whole name is preferred."""

    short: str
    fqdn: str
    key: str  # that says so; "" for the metadata

    def chosen(self, prefer_fqdn: bool) -> str:
        return self.fqdn if prefer_fqdn and self.fqdn else self.short or self.fqdn


def _plan(draft: Draft) -> None:
    names = _names(draft)
    preserve = draft.boolean(PRESERVE, draft.get(PRESERVE), False)
    prefer = draft.boolean(PREFER_FQDN, draft.get(PREFER_FQDN), draft.facts.family == "redhat")
    nodes = [node for key in (FQDN, HOSTNAME, PREFER_FQDN) for node in (draft.get(key),) if node is not None]
    # cloud-init has given the metadata's name when it reads the document: that is the one which is preserved.
    given = _of_metadata(draft) if preserve else names
    if given is not None:
        chosen = given.chosen(prefer)
        if len(chosen.encode()) > NAME_LIMIT:
            if given.key:
                draft.error(given.key, f"longer than {NAME_LIMIT} characters", nodes[0])
        elif given.key:
            draft.step(
                "hostname",
                given.key,
                f"the machine is called {chosen}",
                SetHostname(chosen),
                nodes,
                also=NAMES,
            )
        elif draft.facts.names_machine:
            text = f"the machine is called {chosen}, as the metadata say"
            draft.step("hostname", "metadata", text, SetHostname(chosen), [])
    _hosts(draft, names)


def _names(draft: Draft) -> Optional[Names]:
    """The names of the document; where it has none, or one that cannot be one, the metadata's; else None."""
    hostname, fqdn = _name(draft, HOSTNAME), _name(draft, FQDN)
    if hostname is False or fqdn is False:
        hostname = fqdn = None
    if fqdn:
        return Names(
            str(hostname or "") or str(fqdn).split(".")[0], str(fqdn), FQDN if not hostname else HOSTNAME
        )
    if hostname and "." in str(hostname)[1:]:
        return Names(str(hostname).split(".")[0], str(hostname), HOSTNAME)
    known = draft.facts.hostname
    if hostname:
        return Names(str(hostname), known or str(hostname), HOSTNAME)
    return _of_metadata(draft)


def _of_metadata(draft: Draft) -> Optional[Names]:
    known = draft.facts.hostname
    return Names(known.split(".")[0], known, "") if known and _NAME.match(known) else None


def _name(draft: Draft, key: str) -> "str | bool | None":
    """The name; None where it is not given, False where it cannot be one."""
    node = draft.get(key)
    if node is None or node.value == "":
        return None
    if not isinstance(node.value, str):
        draft.error(key, f'must be text: write "{node.text[:60]}" in quotes', node)
        return False
    name = node.value.strip()
    name = name[:-1] if name.endswith(".") else name  # as names in zone files are written
    if not _NAME.match(name):
        draft.error(key, "is no name: letters, digits, - and . only", node)
        return False
    if "_" in name:
        draft.warn(key, "has a _, which a name in DNS cannot have: written all the same", node)
    return name


def _hosts(draft: Draft, names: Optional[Names]) -> None:
    node = draft.get(HOSTS)
    if node is None:
        return
    text = _word(node)
    if text in FALSE:
        return
    if text not in (*TRUE, "template", "localhost"):
        draft.warn(HOSTS, "must be true, false or localhost: taken for false", node)
        return
    if names is None or not names.short:
        draft.warn(HOSTS, "there is no name to write", node)
        return
    whole = text != "localhost"
    told = "/etc/hosts, all of it" if whole else "our own line of /etc/hosts"
    action = WriteHosts(names.short, names.fqdn, whole, draft.facts.family)
    draft.step("hosts", HOSTS, f"{told}, at each boot: {names.fqdn}", action, [node], often=BOOT)


def _word(node: Node) -> str:
    return str(node.value).strip().lower() if not isinstance(node.value, (list, dict)) else "?"


FAMILY = Family((HOSTNAME, FQDN, PREFER_FQDN, PRESERVE, HOSTS), _plan, always=True)
