"""Lines of authorized_keys: which of them are keys."""

from __future__ import annotations

import re
from typing import List, Tuple

from csagent.user_data.cloud_config.draft import Draft
from csagent.user_data.yaml_lines import Node

_LIKE_A_KEY = re.compile(
    r"^(?:[^\x00-\x1f]*[ \t])?"
    r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+)[ \t]+[^\s\x00-\x1f]+",
    re.ASCII,
)


def key_lines(draft: Draft, key: str, nodes: List[Node], where: str = "") -> Tuple[str, ...]:
    """The lines that are public keys, in the document's order; each of the others is named."""
    found: List[str] = []
    for number, node in enumerate(nodes, 1):
        if node.value is None:
            continue
        lines = node.value.split("\n") if isinstance(node.value, str) else [""]
        for line in [one.strip() for one in lines if one.strip() and not one.startswith("#")] or [""]:
            problem = _key_problem(line)
            if problem:
                draft.warn(key, f"{where}{': ' if where else ''}entry {number} {problem}", node)
            if not problem or _LIKE_A_KEY.search(line):
                found.append(line)
    return tuple(dict.fromkeys(found))


def _key_problem(line: str) -> str:
    from csagent.errors import Malformed
    from csagent.validation import split_key

    try:
        split_key(line)
    except Malformed:
        if _LIKE_A_KEY.search(line):
            return "is not a whole public key: written, but sshd will not take it"
        return "is not a public key: left out"
    return ""
