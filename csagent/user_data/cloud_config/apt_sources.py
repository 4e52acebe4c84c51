"""apt's `sources`, and apt_sources of old: further repositories, each in a file, with their keys."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from csagent.errors import DocumentError
from csagent.model import Secret
from csagent.user_data.cloud_config import apt_keys
from csagent.user_data.cloud_config.apt_main_list import Mirrors
from csagent.user_data.cloud_config.draft import Draft, kind_of
from csagent.user_data.execute.repositories import SourcesFile
from csagent.user_data.placeholders import fill
from csagent.user_data.yaml_lines import Node

OLD = "apt_sources"
KNOWN = ("source", "key", "keyid", "keyserver", "filename", "append")
LISTS = "/etc/apt/sources.list.d"
OLD_NAME = "cloud_config_sources.list"  # of an entry that has none
_NAME = re.compile(r"/?(?:[A-Za-z0-9_.+-]+/)*[A-Za-z0-9_+-][A-Za-z0-9_.+-]*\Z", re.ASCII)
_PPA = re.compile(r"[\w-]+:\w")


def plan(draft: Draft, key: str, node: Optional[Node], mirrors: Mirrors) -> None:
    """A step for each file, and for each key."""
    listed: List[Tuple[str, str, Node]] = []
    given = node.get("sources") if node is not None else None
    if given is not None and given.is_mapping:
        listed += [(key, str(name), one) for name, one in given.value.items()]
    elif given is not None and given.value is not None:
        draft.error(key, f"sources must be a mapping of names, and is {kind_of(given)}", given)
    listed += [(OLD, OLD_NAME, one) for one in draft.entries(OLD)]
    for asked, name, one in listed:
        _source(draft, asked, name, one, mirrors)


def _source(draft: Draft, key: str, name: str, node: Node, mirrors: Mirrors) -> None:
    if not node.is_mapping:
        draft.error(key, f"{name[:60]}: must be a mapping with a source", node)
        return
    draft.unknown(key, node, KNOWN, name[:60])
    named = node.get("filename")
    name = str(named.value) if named is not None and named.value else name
    if not _NAME.match(name) or ".." in name.split("/"):
        draft.error(key, f'"{name[:60]}" cannot be the name of a file of sources', node)
        return
    source = node.get("source")
    text = "" if source is None or source.value is None else draft.text(key, source, f"{name}: source") or ""
    own = "$KEY_FILE" in text or "${KEY_FILE}" in text
    key_file = apt_keys.plan(draft, key, name, node, apt_keys.SIGNED if own else apt_keys.TRUSTED)
    if not text or key_file == "":
        return
    if own and key_file is None:
        draft.error(key, f"{name}: source names $KEY_FILE, and there is neither key nor keyid", node)
        return
    if _PPA.match(text):
        draft.error(key, f"{name}: ppa: is for Ubuntu", node)
        return
    try:
        filled = fill(text, {**mirrors.names, **({"KEY_FILE": key_file} if key_file else {})})
    except DocumentError as error:
        draft.error(key, f"{name}: source: {error.text}", node)
        return
    path = name if name.startswith("/") else f"{LISTS}/{name}"
    path = path if path.endswith(".list") else f"{path}.list"
    append = draft.boolean(key, node.get("append"), True, f"{name}: append")
    content = Secret(filled.encode("utf-8", "surrogateescape") + b"\n")
    action = SourcesFile(path, content, mirrors.search, append)
    draft.step("repositories", key, f"packages of {name}", action, [node], id=name)
