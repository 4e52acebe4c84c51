"""ntp: servers and pools for chrony or systemd-timesyncd."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from csagent.user_data.cloud_config.draft import FALSE, Draft, Family, kind_of
from csagent.user_data.yaml_lines import Node

KEY = "ntp"
KNOWN = ("servers", "pools", "peers", "allow", "ntp_client", "enabled", "config")
_HOST = re.compile(r"[A-Za-z0-9:.%_/-]+\Z", re.ASCII)


def _plan(draft: Draft) -> None:
    from csagent.user_data.execute.ntp import CLIENTS, ConfigureNtp

    node = draft.config.get(KEY)
    if node is None:
        return
    if node.value is not None and not node.is_mapping:
        draft.error(KEY, f"must be a mapping, and is {kind_of(node)}", node, draft.line(KEY))
        return
    if node.is_mapping:
        draft.unknown(KEY, node, KNOWN)
    enabled = node.get("enabled")
    if enabled is not None and str(enabled.value).lower() in FALSE:
        return
    if node.get("config") is not None:
        draft.error(
            KEY, "config (a client and template of one's own) is not known here: use write_files", node
        )
        return
    client = node.get("ntp_client")
    name = "auto" if client is None or client.value is None else str(client.value)
    if name not in ("auto", *CLIENTS):
        draft.error(KEY, f"ntp_client must be auto, {' or '.join(CLIENTS)}", client or node)
        return
    lists = [_hosts(draft, node, key) for key in ("servers", "pools", "peers", "allow")]
    if any(one is None for one in lists):
        return
    servers, pools, peers, allow = (one or () for one in lists)
    if not servers and not pools:
        pools = tuple(f"{number}.{draft.facts.distribution}.pool.ntp.org" for number in range(4))
    action = ConfigureNtp(name, servers, pools, peers, allow, draft.facts.family)
    draft.step(KEY, KEY, f"time from {', '.join((*servers, *pools))}", action, [node])


def _hosts(draft: Draft, node: Node, key: str) -> Optional[Tuple[str, ...]]:
    given = node.get(key)
    if given is None or given.value is None:
        return ()
    words = draft.words(KEY, given, key)
    if words is None:
        return None
    found: List[str] = []
    for word in words:
        text = str(word.value).strip()
        if not _HOST.match(text):
            draft.error(KEY, f"{key}: an entry that is no host", word)
            return None
        found.append(text)
    return tuple(found)


FAMILY = Family((KEY,), _plan)
