"""write_files: files as the document gives them, each an entry of its own (field/user-data#U45 to #U54)."""

from __future__ import annotations

import binascii
import os
from typing import List, NamedTuple, Optional, Tuple

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.files import WriteFile
from csagent.user_data.message import gunzip
from csagent.user_data.yaml_lines import Node

KEY = "write_files"
KNOWN = ("path", "content", "owner", "permissions", "encoding", "append", "defer", "source")
GZIP = ("gz", "gzip")
BASE64 = ("b64", "base64")
BOTH = ("gz+base64", "gzip+base64", "gz+b64", "gzip+b64")
CONTENT_LIMIT = 4 << 20  # bytes
DEFAULT_MODE = 0o644
DEFAULT_OWNER = "root:root"

# What people give files. A number is read as the one of its two readings that is among these.
PLAUSIBLE = frozenset(
    int(text, 8)
    for text in (
        *(
            "400",
            "440",
            "444",
            "500",
            "550",
            "555",
            "600",
            "640",
            "644",
            "660",
            "664",
            "666",
            "700",
            "710",
            "711",
        ),
        *("740", "744", "750", "751", "754", "755", "760", "770", "771", "774", "775", "777"),
    )
)


class _Refused(Exception):
    """This entry is not written. The text says why."""


class _Content(NamedTuple):
    raw: bytes
    size: str


def _plan(draft: Draft) -> None:
    for number, entry in enumerate(draft.entries(KEY), 1):
        if not entry.is_mapping:
            draft.error(KEY, f"entry {number}: must be a mapping with a path, and is {kind_of(entry)}", entry)
            continue
        path_node = entry.get("path")
        if path_node is None or not path_node.value:
            draft.warn(KEY, f"entry {number}: no path: passed over", entry)
            continue
        where = f"entry {number} ({str(path_node.value)[:100]})"
        draft.unknown(KEY, entry, KNOWN, where)
        try:
            _entry(draft, entry, path_node, number, where)
        except _Refused as error:
            draft.error(KEY, f"{where}: {error}", entry)


def _entry(draft: Draft, entry: Node, path_node: Node, number: int, where: str) -> None:
    if not isinstance(path_node.value, str):
        raise _Refused(f"path must be text, and is {kind_of(path_node)}")
    if "\0" in path_node.value:
        raise _Refused("a path cannot hold a NUL")
    path = "/" + os.path.normpath("/" + path_node.value).lstrip("/")
    if path == "/" or path_node.value.endswith(("/..", "/.")):
        raise _Refused("path names a directory")
    source = entry.get("source")
    if source is not None and source.value:
        raise _Refused("source is not known here: fetch it in runcmd, or give the content")
    content = _content(draft, entry, where)
    owner = _owner(entry)
    mode = _mode(draft, entry, where)
    append = draft.boolean(KEY, entry.get("append"), False, f"{where}: append")
    defer = draft.boolean(KEY, entry.get("defer"), False, f"{where}: defer")
    _look_at_home(draft, entry, path, defer, where)
    action = WriteFile(path, Secret(content.raw), mode, owner[0], owner[1], append)
    shown_owner = "".join((owner[0] or "root", f":{owner[1]}" if owner[1] else ""))
    text = f"{'append to ' if append else ''}{path} ({content.size}, {mode:04o}, {shown_owner})"
    draft.step("deferred files" if defer else "files", KEY, text, action, [entry], id=f"{number}:{path}")


def _content(draft: Draft, entry: Node, where: str) -> _Content:
    node = entry.get("content")
    value = node.value if node is not None else None
    if value is None:
        value = ""
    if node is not None and not isinstance(value, (str, bytes)):
        raise _Refused(f"content must be text, and is {kind_of(node)}: put it in quotes")
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    encoding = _encoding(draft, entry, where)
    if encoding in BASE64 or encoding in BOTH:
        try:
            raw = binascii.a2b_base64(_alphabet_only(raw))
        except binascii.Error:
            raise _Refused("content is not base64: its length is wrong") from None
    if encoding in GZIP or encoding in BOTH:
        raw, problem = gunzip(raw)
        if problem:
            raise _Refused(f"content is {problem}")
    if len(raw) > CONTENT_LIMIT:
        raise _Refused(f"content is larger than {CONTENT_LIMIT >> 20} MiB")
    return _Content(raw, f"{len(raw)} bytes")


def _encoding(draft: Draft, entry: Node, where: str) -> str:
    node = entry.get("encoding")
    if node is None or not node.value:
        return ""
    text = str(node.value).lower().strip()
    if text not in (*GZIP, *BASE64, *BOTH, "text/plain"):
        draft.warn(KEY, f'{where}: unknown encoding "{text[:40]}": the content is written as it is', node)
    return text


def _alphabet_only(raw: bytes) -> bytes:
    """Base64 without white space.

    Raises:
        _Refused: it has other characters. A lenient decoder drops them, and `@@@@` is an empty file
            (field/user-data#U48).
    """
    joined = b"".join(raw.split())
    bare = joined.rstrip(b"=")
    if bare.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):
        raise _Refused("content is not base64: it has characters outside of its alphabet")
    return joined


def _owner(entry: Node) -> Tuple[Optional[str], Optional[str]]:
    """(user, group); None leaves root's."""
    node = entry.get("owner")
    if node is not None and node.value is not None and not isinstance(node.value, str):
        raise _Refused("owner must be text, such as root:root")
    text = DEFAULT_OWNER if node is None else str(node.value or "")
    user, _, group = text.partition(":")
    return _named(user), _named(group)


def _named(text: str) -> Optional[str]:
    text = text.strip()
    return None if not text or text == "-1" or text.lower() == "none" else text


def _mode(draft: Draft, entry: Node, where: str) -> int:
    node = entry.get("permissions")
    if node is None or node.value is None:
        return DEFAULT_MODE
    if isinstance(node.value, (bool, list, dict)):
        raise _Refused(f"permissions must be text such as '0644', and is {kind_of(node)}")
    if isinstance(node.value, (int, float)):
        mode = _mode_of_number(draft, node, where)
    else:
        try:
            mode = int(str(node.value), 8)
        except ValueError:
            draft.warn(KEY, f"{where}: permissions that are not octal: taken for 0644", node)
            return DEFAULT_MODE
    if not 0 <= mode <= 0o7777:
        raise _Refused("permissions out of range: write them as text, such as '0644'")
    if mode == 0:
        draft.warn(
            KEY, f"{where}: permissions of 0 are passed over: taken for 0644, as cloud-init does", node
        )
        return DEFAULT_MODE
    if mode & 0o6000:
        draft.warn(KEY, f"{where}: set-user-id and set-group-id bits are lost when the owner is set", node)
    return mode


def _mode_of_number(draft: Draft, node: Node, where: str) -> int:
    value = int(node.value)
    digits = node.text
    if digits.startswith("0") or not digits.isdigit() or any(digit in "89" for digit in digits):
        return value  # octal in YAML 1.1, or nothing but a decimal number
    octal = int(digits, 8)
    if value not in PLAUSIBLE and (octal in PLAUSIBLE or octal & 0o777 in PLAUSIBLE):
        text = f"permissions {digits} without quotes is a decimal number to YAML: taken for '{octal:04o}'"
        draft.warn(KEY, f"{where}: {text}", node)
        return octal
    if value not in PLAUSIBLE:
        text = f"permissions {digits} without quotes is a decimal number to YAML, {value:04o} in octal"
        draft.warn(KEY, f"{where}: {text}", node)
    return value


def _look_at_home(draft: Draft, entry: Node, path: str, defer: bool, where: str) -> None:
    """A file in the home of a user of the document, written before that one is made (field/user-data#U50)."""
    if defer:
        return
    for name in _new_users(draft):
        if path.startswith(f"/home/{name}/"):
            text = f"written before the user {name} is made, whose home then is root's: use defer: true"
            draft.warn(KEY, f"{where}: {text}", entry)


def _new_users(draft: Draft) -> List[str]:
    users = draft.get("users")
    found = []
    for one in users.value if users is not None and users.is_list else ():
        name = one.get("name") if one.is_mapping else one
        if name is not None and isinstance(name.value, str) and name.value not in ("default", "root"):
            found.append(name.value)
    return found


FAMILY = Family((KEY,), _plan)
