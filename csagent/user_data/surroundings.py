"""What planning knows besides the document: the instance's metadata, the machine, the default user."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Tuple

from csagent.errors import DocumentError, UsageError
from csagent.model import NOTHING

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
METADATA_LIMIT = 1 << 20
NO_INSTANCE = "unknown"  # as csagent.state.applied calls an instance without an id
FAMILIES = {  # of os-release(5) ID and ID_LIKE
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "redhat",
    "fedora": "redhat",
    "centos": "redhat",
}


class Facts(NamedTuple):
    """Nothing of it is secret."""

    instance_id: str = NO_INSTANCE
    metadata: Mapping[str, str] = NOTHING  # with CloudStack's spelling of the keys
    hostname: str = ""  # what the metadata says
    names_machine: bool = False  # nobody else gives the machine that name: the document is run by hand
    user: str = "root"
    create_user: bool = False
    distribution: str = "linux"  # os-release ID
    version: str = ""
    codename: str = ""
    family: str = ""  # debian | redhat | ""
    machine: str = ""
    kernel: str = ""
    platform: str = ""
    python: str = ""


def gather(system: "System", settings: "Settings", metadata: Mapping[str, str]) -> Facts:
    """The facts about a machine, or a tree."""
    release = os_release(system)
    name = os.uname()
    glibc = "CS_GNU_LIBC_VERSION"  # "glibc 2.36"; another libc has no such name
    libc = (os.confstr(glibc) or "").replace(" ", "") if glibc in os.confstr_names else ""
    return Facts(
        instance_id=metadata.get("instance-id") or NO_INSTANCE,
        metadata=metadata,
        hostname=metadata.get("local-hostname", ""),
        user=settings.user,
        create_user=settings.create_user,
        distribution=release.get("ID", "linux"),
        version=release.get("VERSION_ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        family=_family(release),
        machine=name.machine,
        kernel=name.release,
        platform=f"{name.sysname}-{name.release}-{name.machine}-with{f'-{libc}' if libc else ''}",
        python=".".join(map(str, sys.version_info[:3])),
    )


def _family(release: Mapping[str, str]) -> str:
    words = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((FAMILIES[word] for word in words if word in FAMILIES), "")


def os_release(system: "System") -> Dict[str, str]:
    """os-release(5), quotes taken off."""
    text = next(filter(None, (system.tree.read_text(path) for path in OS_RELEASE)), "")
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def metadata_of(raw: bytes, shown: str) -> Dict[str, str]:
    """What a file given with --metadata says: JSON or YAML, one value a key.

    Raises:
        UsageError: it is neither, or no mapping of keys to plain values.
    """
    from csagent.user_data.yaml_lines import load

    if len(raw) > METADATA_LIMIT:
        raise UsageError(f"{shown}: larger than {METADATA_LIMIT} bytes")
    try:
        node, _twice = load(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{shown}: not UTF-8") from None
    except DocumentError as error:
        where = f", line {error.line}" if error.line else ""
        raise UsageError(f"{shown}{where}: {error.text}") from None
    if node is None:
        return {}
    if not node.is_mapping:
        raise UsageError(f"{shown}: expected keys with their values, such as local-hostname: web01")
    found: Dict[str, str] = {}
    for key, value in node.value.items():
        plain = _plain(value.plain(), value.text)
        if not isinstance(key, str) or plain is None:
            raise UsageError(
                f"{shown}, line {node.keys[key]}: {str(key)[:60]} must be a key with a plain value"
            )
        found[key] = plain
    return found


def _plain(value: Any, text: str) -> Optional[str]:
    """A value of metadata as CloudStack gives it: text. A list of lines (public keys) is joined."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return None if isinstance(value, (list, dict, bytes)) else text


def names(facts: Facts) -> Dict[str, Any]:
    """The names that a template knows, those of cloud-init's CloudStack datasource (field/user-data#5).

    A key with dashes or dots is also there with underscores; what is in `v1` also without it.
    """
    metadata = facts.metadata
    keys = tuple(line for line in metadata.get("public-keys", "").splitlines() if line.strip())
    v1 = {
        "availability-zone": metadata.get("availability-zone"),
        "cloud-name": "cloudstack",
        "cloud_id": "cloudstack",
        "distro": facts.distribution,
        "distro_release": facts.codename,
        "distro_version": facts.version,
        "instance-id": facts.instance_id,
        "kernel_release": facts.kernel,
        "local-hostname": facts.hostname.split(".")[0] or None,
        "machine": facts.machine,
        "platform": "cloudstack",
        "public_ssh_keys": list(keys),
        "python_version": facts.python,
        "region": None,
        "subplatform": "metadata",
        "system_platform": facts.platform,
        "variant": facts.distribution,
    }
    top: Dict[str, Any] = {
        "ds": {"meta_data": dict(metadata)},
        "v1": v1,
        "merged_cfg": {"disable_root": True, "preserve_hostname": False, "users": ["default"]},
        "sys_info": {
            "dist": [facts.distribution, facts.version, facts.codename],
            "platform": facts.platform,
            "python": facts.python,
            "release": facts.kernel,
            "system": "Linux",
            "uname": _uname(facts),
            "variant": facts.distribution,
        },
    }
    return {**_underscored(top), **_underscored(v1)}


def _uname(facts: Facts) -> Tuple[str, ...]:
    return ("Linux", facts.hostname, facts.kernel, "", facts.machine, "")


def _underscored(value: Dict[str, Any]) -> Dict[str, Any]:
    found = {}
    for key, one in value.items():
        inner = _underscored(one) if isinstance(one, dict) else one
        found[key] = inner
        found[key.replace("-", "_").replace(".", "_")] = inner
    return found
