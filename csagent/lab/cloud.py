"""What a simulated CloudStack knows of a VM, from one YAML or JSON file."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from csagent import validation
from csagent.errors import CsagentError, UsageError
from csagent.lab import network_data
from csagent.lab.network_data import CloudNetwork

FILE_LIMIT = 2 << 20

EXAMPLE = """\
# A VM as CloudStack would describe it. Every line may be left out; `{}` is a valid file.
# The router reads this file again whenever it changes: edit it while the agent runs.
instance_id: 5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1e01
hostname: web-01
ssh_keys:
  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVYQU1QTEVFWEFNUExFRVhBTVBMRUVYQU1QTEVFWEFN me@example

# Offered on the password port until it is acknowledged; a new value is offered again. null: none is waiting.
password: EXAMPLEpass7

# Or user_data_base64, for binary content.
user_data: |
  #!/bin/sh
  echo hello

# Further keys, or other values for the usual ones. null: a key that exists and is empty.
metadata:
  service-offering: Small Instance
  availability-zone: zone-1
  role: frontend

# The drive's network_data.json; without it that is {}. form: as "4.19", "4.20" or later releases write it, or
# absent. dhcp: ConfigDrive, VirtualRouter, none or routed. The first NIC is the default one.
# network:
#   form: later
#   dns: [10.7.0.2]
#   nics:
#     - {mac: "02:01:00:c4:00:05", dhcp: ConfigDrive, addresses: [10.7.0.21/24], gateways: [10.7.0.1]}

# Other VMs, known by the address that they ask from. All other addresses are the VM above.
vms:
  127.0.0.2:
    instance_id: 5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1e02
    hostname: db-01
"""

_DEFAULT_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVYQU1QTEVFWEFNUExFRVhBTVBMRUVYQU1QTEVFWEFN example@csagent"
)
_DEFAULT_METADATA = {
    "service-offering": "Small Instance",
    "availability-zone": "zone-1",
    "local-ipv4": "10.1.1.10",
    "public-ipv4": "192.0.2.10",
    "public-hostname": "192.0.2.10",
    "cloud-identifier": "CloudStack-{9d3bcd4a-1f0f-4a3c-8a53-2f9d1c1f7e10}",
    "hypervisor-host-name": "",
}


def escape(text: str) -> str:
    r"""CloudStack's ``\uXXXX`` for every UTF-16 unit that is not ASCII."""
    units = text.encode("utf-16-be", "surrogatepass")
    pairs = [units[index : index + 2] for index in range(0, len(units), 2)]
    return "".join(chr(pair[1]) if pair < b"\0\x80" else f"\\u{pair.hex().upper()}" for pair in pairs)


@dataclass(frozen=True)
class Cloud:
    """One VM. `metadata` are the keys beside instance id, host name and public keys; "" is an empty key.

    `vms` are other VMs by the source address of their requests. The password is no `Secret`: whoever
    describes a cloud knows it.
    """

    instance_id: str = "5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1e01"
    hostname: str = "vm-1"
    ssh_keys: Tuple[str, ...] = (_DEFAULT_KEY,)
    password: Optional[str] = field(default="EXAMPLEpass7", repr=False)
    user_data: bytes = field(default=b"", repr=False)
    metadata: Mapping[str, str] = field(default_factory=lambda: dict(_DEFAULT_METADATA))
    network: CloudNetwork = field(default_factory=CloudNetwork)
    vms: Mapping[str, "Cloud"] = field(default_factory=dict)

    def tree(self) -> Dict[str, bytes]:
        """The metadata files of the VR by key, in the order of its first sight (field/cloudstack#2.4)."""
        values: Dict[str, str] = {
            "service-offering": "",
            "availability-zone": "",
            "local-ipv4": "",
            "local-hostname": self.hostname,
            "public-ipv4": "",
            "public-hostname": "",
            "instance-id": self.instance_id,
            "vm-id": self.instance_id,
            "public-keys": "\n".join(self.ssh_keys),
            **self.metadata,
        }
        known = {"local-hostname", "instance-id", "vm-id", "public-keys"}
        escaped = ("service-offering", "availability-zone", "local-hostname")
        return {
            key: (escape(value) if key in escaped else value).encode("utf-8", "surrogateescape")
            for key, value in values.items()
            if key in self.metadata or key in known
        }

    def seen_from(self, address: str) -> "Cloud":
        """The VM that an address is: the router knows VMs by the source of their requests."""
        return self.vms.get(address, self)


def load(path: str) -> Cloud:
    """Read a description.

    Raises:
        CsagentError: the file cannot be read.
        UsageError: it is neither JSON nor YAML, or says something that cannot be.
    """
    try:
        with open(path, "rb") as stream:
            raw = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise CsagentError(f"{path}: {os.strerror(error.errno or 0)}") from None
    if len(raw) > FILE_LIMIT:
        raise UsageError(f"{path}: larger than {FILE_LIMIT} bytes")
    return describe(_document(raw, path), path)


def _document(raw: bytes, path: str) -> Any:
    """JSON where it is JSON, which spares the import of yaml."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        pass
    import yaml

    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{where}: neither JSON nor YAML") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: neither JSON nor YAML") from None


def describe(document: Any, where: str, *, nested: bool = False) -> Cloud:
    """A parsed description as a `Cloud`; what it leaves out gets a default.

    Raises:
        UsageError: a key that is unknown, or a value that is of the wrong kind.
    """
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise UsageError(f"{where}: must be a mapping such as `csagent lab router --example` prints")
    cloud = Cloud(hostname="vm-2") if nested else Cloud()
    changes: Dict[str, Any] = {}
    for key, value in document.items():
        if key == "vms" and not nested:
            changes["vms"] = _vms(value, where)
        elif key == "network":
            changes["network"] = network_data.describe(value, f"{where}: network")
        elif key == "metadata":
            changes["metadata"] = {**cloud.metadata, **_metadata(value, where)}
        elif key == "ssh_keys":
            changes["ssh_keys"] = tuple(_text(line, where, key) for line in _list(value, where, key))
        elif key in ("user_data", "user_data_base64"):
            changes["user_data"] = _user_data(key, value, where)
        elif key == "password":
            changes["password"] = None if value is None else _quoted(value, where, key)
        elif key in ("instance_id", "hostname"):
            changes[key] = _quoted(value, where, key)
        else:
            raise UsageError(f"{where}: unknown key {validation.excerpt(str(key))}")
    return replace(cloud, **changes)


def _text(value: Any, where: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{where}: {key} must be text")
    return str(value)


def _quoted(value: Any, where: str, key: str) -> str:
    """Text that YAML has not made another number of: 0123 is 83 to it, and 1.10 is 1.1."""
    if not isinstance(value, str):
        raise UsageError(f'{where}: {key} must be text; write it in quotes, such as "0123"')
    return value


def _list(value: Any, where: str, key: str) -> "list[Any]":
    if not isinstance(value, list):
        raise UsageError(f"{where}: {key} must be a list")
    return value


def _metadata(value: Any, where: str) -> Dict[str, str]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: metadata must be a mapping of key to text")
    return {
        str(key): "" if item is None else _text(item, where, f"metadata {key}") for key, item in value.items()
    }


def _user_data(key: str, value: Any, where: str) -> bytes:
    text = "" if value is None else _text(value, where, key)
    if key == "user_data":
        return text.encode()
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"{where}: {key} is not base64") from None


def _vms(value: Any, where: str) -> Dict[str, Cloud]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: vms must be a mapping of address to VM")
    for address in value:
        if validation.address(str(address)) is None:
            raise UsageError(f"{where}: vms: {validation.excerpt(str(address))} is not an IPv4 address")
    return {
        str(address): describe(entry, f"{where}: vms {address}", nested=True)
        for address, entry in value.items()
    }
