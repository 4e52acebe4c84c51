"""disk_setup, fs_setup, device_aliases: partitions and file systems of further disks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.yaml_lines import Node

if TYPE_CHECKING:
    from csagent.user_data.execute.disks import Partition

DISKS, FILESYSTEMS, ALIASES = "disk_setup", "fs_setup", "device_aliases"
DISK_KNOWN = ("table_type", "layout", "overwrite")
FS_KNOWN = ("label", "filesystem", "device", "partition", "overwrite", "extra_opts", "cmd", "replace_fs")
TABLES = {"mbr": "dos", "gpt": "gpt"}
# What sgdisk calls partition types, by what sfdisk calls them.
GPT_TYPES = {"83": "L", "8300": "L", "82": "S", "8200": "S", "ef": "U", "ef00": "U", "8e": "V", "8e00": "V"}
GPT_TYPES.update({"fd": "R", "fd00": "R", "linux": "L", "swap": "S"})
_GUID = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z", re.IGNORECASE)
_HEX = re.compile(r"(0x)?[0-9A-F]{1,2}\Z", re.IGNORECASE)
_DEVICE = re.compile(r"[\w./:=@+-]+\Z", re.ASCII)
_TYPE = re.compile(r"[a-z0-9_.+-]+\Z", re.ASCII)


def device_name(draft: Draft, key: str, node: Node, text: str) -> Optional[str]:
    """A device by its path, its name below /dev, or an alias; None, and an error, for what is none."""
    aliases = draft.get(ALIASES)
    alias = aliases.get(text) if aliases is not None else None
    if alias is not None and isinstance(alias.value, str):
        text = alias.value
    if not _DEVICE.match(text):
        draft.error(key, f'"{text[:60]}" is no device', node)
        return None
    if text.startswith(("ephemeral", "ebs", "ami")) or text in ("swap", "root"):
        draft.error(
            key, f'"{text[:60]}" is a name of another cloud\'s: write the device, such as /dev/vdb', node
        )
        return None
    return text if text.startswith("/") or "=" in text else f"/dev/{text}"


def _plan(draft: Draft) -> None:
    node = draft.get(DISKS)
    if node is not None and not node.is_mapping:
        draft.error(DISKS, f"must be a mapping of devices, and is {kind_of(node)}", node, draft.line(DISKS))
    elif node is not None:
        for name, one in node.value.items():
            _disk(draft, str(name), one)
    for number, one in enumerate(draft.entries(FILESYSTEMS), 1):
        _filesystem(draft, number, one)


def _disk(draft: Draft, name: str, node: Node) -> None:
    from csagent.user_data.execute.disks import PartitionDisk

    if not node.is_mapping:
        draft.error(DISKS, f"{name[:60]}: must be a mapping, and is {kind_of(node)}", node)
        return
    draft.unknown(DISKS, node, DISK_KNOWN, name[:60])
    device = device_name(draft, DISKS, node, name)
    table_node, layout = node.get("table_type"), node.get("layout")
    table = "mbr" if table_node is None or table_node.value is None else str(table_node.value).lower()
    if table not in TABLES:
        draft.error(DISKS, f"{name[:60]}: table_type must be mbr or gpt", table_node or node)
        return
    if device is None or layout is None or layout.value is None or layout.value is False:
        return
    overwrite = draft.boolean(DISKS, node.get("overwrite"), False, f"{name[:60]}: overwrite")
    if isinstance(layout.value, str) and layout.value.lower() == "remove":
        action = PartitionDisk(device, TABLES[table], (), True, overwrite)
        draft.step("disks", DISKS, f"{device}: all partitions are removed", action, [node], id=name[:60])
        return
    parts = _layout(draft, name, layout, table)
    if parts is None:
        return
    told = f"{device}: {len(parts)} partition{'' if len(parts) == 1 else 's'} ({table})"
    told += ", whatever is on it" if overwrite else ", if it is empty"
    draft.step(
        "disks",
        DISKS,
        told,
        PartitionDisk(device, TABLES[table], parts, False, overwrite),
        [node],
        id=name[:60],
    )


def _layout(draft: Draft, name: str, node: Node, table: str) -> Optional[Tuple["Partition", ...]]:
    from csagent.user_data.execute.disks import Partition

    if node.value is True or (isinstance(node.value, str) and node.value.lower() in ("true", "auto", "yes")):
        return (Partition(100.0, "L" if table == "gpt" else "83"),)
    if not node.is_list or not node.value or (table == "mbr" and len(node.value) > 4):
        draft.error(DISKS, f"{name[:60]}: layout must be true, remove, or a list of percentages", node)
        return None
    found: List[Partition] = []
    for one in node.value:
        size, kind = (one.value[0], one.value[1]) if one.is_list and len(one.value) == 2 else (one, None)
        type_ = _type(kind, table)
        number = size.value
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or not 0 < number <= 100
            or not type_
        ):
            text = "each entry of layout is a percentage, or a list of one and a partition type"
            draft.error(DISKS, f"{name[:60]}: {text}", one)
            return None
        found.append(Partition(float(number), type_))
    return tuple(found)


def _type(node: Optional[Node], table: str) -> str:
    """The type as sfdisk writes it; "" for what is none."""
    if node is None or node.value is None:
        return "L" if table == "gpt" else "83"
    text = node.value if isinstance(node.value, str) else node.text or str(node.value)
    if table == "gpt":
        return GPT_TYPES.get(text.lower()) or (text if _GUID.match(text) else "")
    return text if _HEX.match(text) else ""


def _filesystem(draft: Draft, number: int, node: Node) -> None:
    from csagent.user_data.execute.disks import MakeFilesystem

    where = f"entry {number}"
    if not node.is_mapping:
        draft.error(FILESYSTEMS, f"{where}: must be a mapping, and is {kind_of(node)}", node)
        return
    draft.unknown(FILESYSTEMS, node, FS_KNOWN, where)
    texts: Dict[str, str] = {}
    for key in ("label", "filesystem", "device", "partition", "replace_fs"):
        given = node.get(key)
        if given is not None and given.value not in (None, False):
            text = draft.text(FILESYSTEMS, given, f"{where}: {key}")
            if text is None:
                return
            texts[key] = text
    device, dot, part = texts.get("device", "").partition(".")
    if dot and part.isdigit() and not device.startswith("/"):
        texts["partition"] = part
    else:
        device = texts.get("device", "")
    name = device_name(draft, FILESYSTEMS, node, device) if device else None
    if name is None:
        if not device:
            draft.error(FILESYSTEMS, f"{where}: needs a device", node)
        return
    command = _command(draft, node.get("cmd"), texts, name)
    partition = texts.get("partition", "any").lower()
    options = _options(draft, where, node.get("extra_opts"))
    kind = texts.get("filesystem", "")
    if command is None or options is None:
        return
    if not command and not _TYPE.match(kind):
        draft.error(FILESYSTEMS, f"{where}: needs a filesystem, such as ext4", node)
        return
    if partition not in ("auto", "any", "none") and not partition.isdigit():
        draft.error(FILESYSTEMS, f"{where}: partition must be auto, any, none or a number", node)
        return
    overwrite = draft.boolean(FILESYSTEMS, node.get("overwrite"), False, f"{where}: overwrite")
    label, replaced = texts.get("label", ""), texts.get("replace_fs", "")
    action = MakeFilesystem(name, partition, kind, label, overwrite, replaced, options, command)
    on = name if partition == "none" else f"{name}, partition {partition}"
    told = f"{kind or 'a file system'} on {on}" + (f", label {label}" if label else "")
    draft.step("file systems", FILESYSTEMS, told, action, [node], id=str(number))


def _options(draft: Draft, where: str, node: Optional[Node]) -> Optional[Tuple[str, ...]]:
    if node is None or node.value is None:
        return ()
    if isinstance(node.value, str):
        return tuple(node.value.split())
    if node.is_list and not any(one.is_list or one.is_mapping for one in node.value):
        return tuple(one.value if isinstance(one.value, str) else one.text for one in node.value)
    draft.error(FILESYSTEMS, f"{where}: extra_opts must be a list of options", node)
    return None


def _command(draft: Draft, node: Optional[Node], texts: Dict[str, str], device: str) -> Optional[str]:
    """A command of the document's own, with %(label)s, %(filesystem)s and %(device)s filled in."""
    if node is None or not node.value:
        return ""
    text = " ".join(str(one.value) for one in node.value) if node.is_list else str(node.value)
    values = {"label": texts.get("label", ""), "filesystem": texts.get("filesystem", ""), "device": device}
    try:
        return text % values
    except (ValueError, KeyError, TypeError):
        draft.error(
            FILESYSTEMS, "cmd has a % that means nothing: %(label)s, %(filesystem)s and %(device)s do", node
        )
        return None


FAMILY = Family((DISKS, FILESYSTEMS, ALIASES), _plan)
