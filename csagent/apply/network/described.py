"""A machine that somebody describes, in the form of the test documents' `machine`, in JSON or YAML:

    {"02:01:00:c4:00:05": {"name": "ens3", "lease": "10.1.1.42/24", "owner": "NetworkManager"}}

`lease` and `owner` may be missing; the owner is systemd-networkd then. With a key `machine` around it, a list
`formerly` has the MAC addresses of NICs that are gone and had a file of csagent's.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from csagent.apply.network import renderers
from csagent.apply.network.machine import MANAGERS, NETWORKD, RESOLVED, Device, Machine, Owner
from csagent.apply.network.renderers import networkd
from csagent.errors import UsageError
from csagent.system import json_limits

SIZE_LIMIT = 256 * 1024
DEVICES_LIMIT = 256

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.ASCII)
_NAME = re.compile(r"[!-.0-~]{1,15}\Z", re.ASCII)


def machine(raw: bytes, shown: str) -> Machine:
    """The machine that a file describes.

    Raises:
        UsageError: it describes none; the message names what is wrong.
    """
    said = _load(raw, shown)
    formerly: List[str] = []
    if "machine" in said:
        formerly = [_mac(mac, shown) for mac in _list(said.get("formerly"), shown)]
        said = said["machine"] if isinstance(said["machine"], dict) else {}
    devices = tuple(
        _device(_mac(mac, shown), entry, place, shown)
        for place, (mac, entry) in enumerate(list(said.items())[:DEVICES_LIMIT], 2)
    )
    if not devices:
        raise UsageError(f"{shown}: describes no NIC")
    written = {
        mac: {networkd.path(mac): renderers.fingerprint(mac, networkd.path(mac), "")} for mac in formerly
    }
    return Machine(devices, written, resolver=RESOLVED)


def _load(raw: bytes, shown: str) -> Dict[str, Any]:
    if len(raw) > SIZE_LIMIT:
        raise UsageError(f"{shown}: larger than {SIZE_LIMIT} bytes")
    try:
        document = json_limits.loads(raw)
    except (ValueError, RecursionError):
        document = _load_yaml(raw, shown)
    if not isinstance(document, dict):
        raise UsageError(f"{shown}: neither JSON nor YAML of NICs by their MAC addresses")
    return document


def _load_yaml(raw: bytes, shown: str) -> Any:
    """YAML without aliases, which can make a small file a large one; every value is text."""
    try:
        import yaml
    except ImportError:
        raise UsageError(f"{shown}: not JSON, and PyYAML is not installed (python3-yaml)") from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, Loader=yaml.BaseLoader)):
            raise UsageError(f"{shown}: YAML with an alias")
        return yaml.load(raw, Loader=yaml.BaseLoader)  # noqa: S506  it makes nothing but text, lists, mappings
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f", line {line + 1}"
        raise UsageError(f"{shown}{where}: neither JSON nor YAML") from None


def _device(mac: str, entry: Any, ifindex: int, shown: str) -> Device:
    said: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    name, lease, owner = said.get("name"), said.get("lease"), said.get("owner", NETWORKD)
    if not isinstance(name, str) or not _NAME.match(name):
        raise UsageError(f"{shown}: {mac}: name is not the name of a NIC")
    if lease is not None and not isinstance(lease, str):
        raise UsageError(f"{shown}: {mac}: lease is not an address")
    if owner not in MANAGERS:
        raise UsageError(f"{shown}: {mac}: owner must be one of {', '.join(MANAGERS)}")
    return Device(name, mac, ifindex, lease=lease, owner=Owner(owner))


def _mac(value: Any, shown: str) -> str:
    mac = value.lower() if isinstance(value, str) else ""
    if not _MAC.match(mac):
        raise UsageError(f"{shown}: {value!r} is not a MAC address")
    return mac


def _list(value: Any, shown: str) -> Tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UsageError(f"{shown}: formerly is not a list")
    return tuple(value)
