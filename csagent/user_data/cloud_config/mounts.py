"""mounts, mount_default_fields and swap: /etc/fstab, and what is mounted now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List, Optional, Tuple

from csagent.user_data.cloud_config.disks import ALIASES
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.yaml_lines import Node

if TYPE_CHECKING:
    from csagent.user_data.execute.mounts import Mount

MOUNTS, DEFAULTS, SWAP = "mounts", "mount_default_fields", "swap"
FIELDS = ("", "", "auto", "defaults,nofail", "0", "2")
SWAP_FILE = "/swap.img"
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([BKMGT]?)(?:i?B)?\Z", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"(x?[shv]d[a-z][0-9]*|sr[0-9]+|nvme\d+n\d+(p\d+)?)\Z")


def _plan(draft: Draft) -> None:
    from csagent.user_data.execute.mounts import MountAll

    defaults = _defaults(draft)
    found: List[Mount] = []
    nodes: List[Node] = []
    for number, one in enumerate(draft.entries(MOUNTS), 1):
        mount = _mount(draft, number, one, defaults)
        if mount is not None:
            found.append(mount)
            nodes.append(one)
    _swap(draft)
    if found:
        told = ", ".join(f"{mount.device} on {mount.point}" for mount in found)
        draft.step("mounts", MOUNTS, told, MountAll(tuple(found)), nodes, also=(DEFAULTS, ALIASES))


def _defaults(draft: Draft) -> Tuple[str, ...]:
    fields = list(FIELDS)
    for place, one in enumerate(draft.entries(DEFAULTS)[: len(FIELDS)]):
        if one.value is not None:
            fields[place] = one.value if isinstance(one.value, str) else one.text
    return tuple(fields)


def _mount(draft: Draft, number: int, node: Node, defaults: Tuple[str, ...]) -> Optional["Mount"]:
    from csagent.user_data.execute.mounts import Mount

    where = f"entry {number}"
    if not node.is_list or not node.value or any(one.is_list or one.is_mapping for one in node.value):
        draft.error(
            MOUNTS, f"{where}: must be a list of a device, a directory and so on, as in /etc/fstab", node
        )
        return None
    if len(node.value) > len(FIELDS):
        draft.error(MOUNTS, f"{where}: has more than {len(FIELDS)} fields", node)
        return None
    if len(node.value) == 1 or node.value[1].value is None:
        return None  # how one says that a default entry is not wanted
    words = list(defaults)
    for place, one in enumerate(node.value):
        if one.value is not None:
            words[place] = one.value if isinstance(one.value, str) else one.text or str(one.value)
    if any(not word or any(character.isspace() for character in word) for word in words[:4]):
        draft.error(MOUNTS, f"{where}: a field that is empty or has blanks (write \\040 for one)", node)
        return None
    aliases = draft.get(ALIASES)
    alias = aliases.get(words[0]) if aliases is not None else None
    device = alias.value if alias is not None and isinstance(alias.value, str) else words[0]
    if device in ("swap", "root", "ami") or re.match(r"(ephemeral|ebs)\d*(\.\d+)?\Z", device):
        draft.warn(MOUNTS, f'{where}: "{device}" is a name of another cloud\'s: passed over', node)
        return None
    if _PLAIN_NAME.match(device):
        device = f"/dev/{device}"
    return Mount(device, words[1], words[2], words[3], words[4], words[5])


def _swap(draft: Draft) -> None:
    from csagent.user_data.execute.mounts import MakeSwap

    node = draft.get(SWAP)
    if node is None:
        return
    if not node.is_mapping:
        draft.error(SWAP, f"must be a mapping with a size, and is {kind_of(node)}", node, draft.line(SWAP))
        return
    draft.unknown(SWAP, node, ("filename", "size", "maxsize"))
    name = node.get("filename")
    path = draft.text(SWAP, name, "filename") if name is not None and name.value else SWAP_FILE
    size, limit = _bytes(draft, node.get("size"), "size"), _bytes(draft, node.get("maxsize"), "maxsize")
    if size is None or limit is None or path is None or size == 0:
        return
    if not path.startswith("/") or any(character.isspace() for character in path):
        draft.error(SWAP, "filename must be an absolute path without blanks", name or node)
        return
    told = f"swap in {path}, {'as large as fits' if size < 0 else f'{size >> 20} MiB'}"
    draft.step("mounts", SWAP, told, MakeSwap(path, max(size, 0), limit), [node])


def _bytes(draft: Draft, node: Optional[Node], what: str) -> Optional[int]:
    """A size in bytes; 0 for none, -1 for auto; None, and an error, for what is none."""
    if node is None or node.value in (None, False):
        return 0
    text = node.value if isinstance(node.value, str) else node.text
    if text.strip().lower() == "auto":
        return -1
    match = _SIZE.match(text.strip())
    if match is None:
        draft.error(SWAP, f"{what} must be auto or a size, such as 2G", node)
        return None
    return int(float(match.group(1)) * UNITS[match.group(2).upper()])


FAMILY = Family((MOUNTS, DEFAULTS, SWAP), _plan)
