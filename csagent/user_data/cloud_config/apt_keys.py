"""Public keys of repositories: given in the document, or fetched by their number (`key`, `keyid`)."""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Optional

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft
from csagent.user_data.execute.configure import Configure, File
from csagent.user_data.execute.repositories import FetchKey
from csagent.user_data.yaml_lines import Node

TRUSTED, SIGNED = "/etc/apt/trusted.gpg.d", "/etc/apt/cloud-init.gpg.d"
KEYSERVER = "keyserver.ubuntu.com"
_KEY_ID = re.compile(r"(0x)?[0-9A-Fa-f ]{8,60}\Z", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9:/._-]+\Z", re.ASCII)
BEGIN, END = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))
KEY_LIMIT = 1 << 18  # characters
FINGERPRINT = 40  # digits


def plan(draft: Draft, key: str, name: str, node: Node, folder: str) -> Optional[str]:
    """The step that puts a key into its file.

    Args:
        key: of the document.
        name: of the file that the key is for.
        node: the mapping with `key` or `keyid`.
        folder: for the file.

    Returns:
        The file; None where no key is given; "" where it cannot be used, which is said.
    """
    given, key_id = node.get("key"), node.get("keyid")
    path = f"{folder}/{os.path.splitext(os.path.basename(name))[0]}.gpg"
    if given is not None and given.value:
        text = draft.text(key, given, f"{name}: key")
        raw = None if text is None else dearmored(text)
        if raw is None:
            draft.error(key, f"{name}: key is no public key in text form, or not the whole of it", given)
            return ""
        action = Configure((File(path, Secret(raw)),))
        draft.step("repositories", key, f"the key of {name}", action, [node], id=f"{name}-key")
        return path
    if key_id is None or not key_id.value:
        return None
    number = draft.text(key, key_id, f"{name}: keyid") or ""
    server = node.get("keyserver")
    host = str(server.value) if server is not None and server.value else KEYSERVER
    if not _KEY_ID.match(number) or not _HOST.match(host):
        draft.error(key, f"{name}: keyid is no fingerprint, or keyserver no host", key_id)
        return ""
    fetch = FetchKey(number.replace(" ", ""), host, path)
    if len(fetch.key_id) < FINGERPRINT:
        draft.warn(key, f"{name}: keyid is no whole fingerprint: others can make such a key", key_id)
    draft.step(
        "repositories", key, f"fetch the key {fetch.key_id} from {host}", fetch, [node], id=f"{name}-key"
    )
    return path


def dearmored(text: str) -> Optional[bytes]:
    """The bytes of a key in text form (RFC 4880, section 6.2); None where it is none, or is damaged."""
    block, end, _behind = text[:KEY_LIMIT].partition(BEGIN)[2].partition(END)
    lines = [line.strip() for line in block.splitlines()]
    if not end or "" not in lines[1:]:
        return None
    data = lines[lines.index("", 1) + 1 :]  # behind the headers
    check = data.pop() if data and data[-1].startswith("=") else ""
    try:
        raw = base64.b64decode("".join(data), validate=True)
        known = int.from_bytes(base64.b64decode(check[1:], validate=True), "big")
    except binascii.Error:
        return None
    return raw if raw and (not check or known == _crc24(raw)) else None


def _crc24(raw: bytes) -> int:
    """RFC 4880, section 6.1."""
    value = 0xB704CE
    for byte in raw:
        value ^= byte << 16
        for _ in range(8):
            value = (value << 1) ^ (0x1864CFB if value & 0x800000 else 0)
    return value & 0xFFFFFF
