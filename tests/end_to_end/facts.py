"""What a boot has reported, as facts that can be compared: a name and a text each."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from cases import SECOND_MAC
from machine import Report
from support.vm_cloud import PASSWORD, hash_verifies

from csagent.lab.vm.machine import MAC

Facts = Dict[str, str]

DOCUMENTS_PASSWORD = "marker-Deploy-EXAMPLE"
NICS = {MAC: "NIC 0", SECOND_MAC: "NIC 1"}
MESSAGE = re.compile(r"end-to-end: up after [0-9.]+ seconds")
OPTIONS_LEFT_OUT = {"defaults", "rw", "relatime", "seclabel"}
NONE = "none"
ITS_ID = "ITS-ID"  # in place of the machine's own instance id, which no two machines share


def facts(report: Report, instance_id: str, before: Sequence[Report] = ()) -> Facts:
    """What is so after a boot of that instance, the boots before it being known."""
    guest = report.guest
    found: Facts = {
        "outcome": _outcome(guest),
        "ran, in this order": _ran(guest["order"] or ""),
        "host name, kernel": guest["kernel_name"],
        "host name, file": (guest["file_name"] or "").strip(),
        "host name, with domain": guest["full_name"].strip(),
        "lines of /etc/hosts": "; ".join(sorted(_hosts(guest["hosts"] or ""))) or NONE,
        "time zone": guest["time_zone"].partition("zoneinfo/")[2],
        "app.service": guest["app"],
        "failed units": ", ".join(sorted(line.split()[0] for line in guest["failed"].splitlines() if line))
        or NONE,
        "password acknowledged": f"{report.acknowledged} times",
        "host keys": ", ".join(
            sorted(name[len("ssh_host_") : -len("_key.pub")] for name in guest["host_keys"])
        ),
        "host keys on the console": ", ".join(_console_keys(report.serial)) or "no",
        "fingerprints on the console": "yes" if "BEGIN SSH HOST KEY FINGERPRINTS" in report.serial else "no",
        "message on the console": "yes" if MESSAGE.search(report.serial) else "no",
        "name servers": ", ".join(sorted(set(_addresses(guest["dns"])))) or NONE,
    }
    if before:
        same = before[-1].guest["host_keys"] == guest["host_keys"]
        found["host keys since the boot before"] = "the same" if same else "others"
    for name, account in guest["accounts"].items():
        found.update(_account(name, account))
    found.update({f"group {name}": ", ".join(sorted(held)) for name, held in guest["groups"].items()})
    found.update({f"file {path}": _file(path, said, instance_id) for path, said in guest["files"].items()})
    found.update({f"package {name}": version or "absent" for name, version in guest["packages"].items()})
    found.update(_network(guest))
    found.update({f"reached at {address}": "yes" for address in report.reached})
    found.update(_disks(guest))
    return found


def seconds(report: Report) -> Dict[str, float]:
    """By the guest's clock, since its kernel started: the units, and the end of what the agent does."""
    found = {"done": round(float(report.guest["ended"]), 1)}
    for unit in report.guest["moments"]:
        when = int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        if when and unit["Id"] in ("ssh.service", "multi-user.target"):
            found[unit["Id"]] = round(when, 1)
    return found


def _outcome(guest: Mapping[str, Any]) -> str:
    status = guest["status"]
    if "user_data" in status:
        return str((status["user_data"] or {}).get("state"))
    return {"done": "done", "error": "failed"}.get(str(status.get("status")), str(status))


def _ran(order: str) -> str:
    lines = order.splitlines()
    return "; ".join(f"{line} ({lines.count(line)})" for line in dict.fromkeys(lines)) or NONE


def _file(path: str, said: str, instance_id: str) -> str:
    """Of a log mode and owner only: apt-get says how many files are on the machine."""
    if path.startswith("/var/log/"):
        return " ".join(said.split(" ")[:2])
    return said.replace(instance_id, ITS_ID)


def _hosts(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words and not all(name.startswith(("localhost", "ip6-")) for name in words[1:]):
            yield " ".join(words)


def _console_keys(serial: str) -> List[str]:
    block = re.search(
        r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", serial, re.DOTALL
    )
    kinds = re.findall(r"(ssh-\w+|ecdsa-[\w-]+) AAAA", block.group(1)) if block else []
    return sorted(kinds)


def _addresses(text: str) -> Iterator[str]:
    for word in text.split():
        try:
            yield str(ipaddress.ip_address(word.partition("%")[0]))
        except ValueError:
            pass


def _account(name: str, account: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    yield f"account {name}", f"{account['home']}, {account['shell']}, group {account['group']}"
    yield f"number of {name}", str(account["uid"])
    yield f"comment of {name}", account["gecos"]
    yield f"groups of {name}", ", ".join(account["groups"]) or NONE
    yield f"home of {name}", str(account["home_is"])
    yield f"password of {name}", _password(*(account["shadow"] or [""])[:1])
    yield f"sudo of {name}", "without a password" if "NOPASSWD: ALL" in account["sudo"] else "no"
    if account["keys"] is not None:
        yield f"keys of {name}", ", ".join(_keys(account["keys"])) or NONE
        yield f"key file of {name}", f"{account['keys_are']}, in {account['ssh_is']}"


def _password(field: str) -> str:
    bare = field.lstrip("!")
    locked = "locked, " if bare != field else ""
    if not bare.startswith("$"):
        return "locked" if field else "empty"
    for said, password in (("CloudStack's", PASSWORD), ("the document's", DOCUMENTS_PASSWORD)):
        if hash_verifies(password, bare):
            return locked + said
    return locked + "another"


def _keys(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = re.match(r"(?P<options>.*?)\b(?:ssh-|ecdsa-|sk-)\S+ AAAA\S+ ?(?P<comment>.*)\Z", line.strip())
        if found and not line.startswith("#"):
            yield ("closed for " if "command=" in found["options"] else "") + found["comment"]


def _network(guest: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    names = {one["ifname"]: NICS.get(one.get("address", ""), "") for one in guest["address"]}
    for one in guest["address"]:
        nic = names[one["ifname"]]
        if nic:
            yield f"name of {nic}", one["ifname"]
            own = [
                f"{entry['local']}/{entry['prefixlen']}"
                for entry in one["addr_info"]
                if entry["scope"] == "global"
            ]
            yield f"addresses of {nic}", ", ".join(sorted(own)) or NONE
            yield f"MTU of {nic}", str(one["mtu"])
    routes: Dict[str, Dict[int, List[str]]] = {}
    for route in guest["route"]:
        if route.get("protocol") != "kernel":
            via = f"via {route['gateway']}" if "gateway" in route else "direct"
            alike = routes.setdefault(route["dst"], {}).setdefault(route.get("metric", 0), [])
            alike.append(f"{via}, {names.get(route.get('dev'), '?')}")
    for to, ways in routes.items():  # of one metric the kernel takes whichever was made last
        yield f"route {to}", "; then ".join(" or ".join(sorted(ways[metric])) for metric in sorted(ways))


def _disks(guest: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    for path, size in guest["sizes"].items():
        yield f"size of {path}", f"{size / (1 << 30):.1f} GiB"
    for mount in _flat(guest["mounts"].get("filesystems", ())):
        if mount["target"] == "/srv/data":
            options = sorted(set(mount["options"].split(",")) - OPTIONS_LEFT_OUT)
            yield "mount /srv/data", f"{mount['source']}, {mount['fstype']}, {','.join(options)}"
    for line in (guest["fstab"] or "").splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == "/srv/data":
            yield "fstab, /srv/data", " ".join(words)
    for disk in guest["disks"].get("blockdevices", ()):
        if disk["type"] == "disk":
            parts = [f"{part['fstype']} {part['label'] or ''}".strip() for part in disk.get("children", ())]
            whole = disk["fstype"] or disk["pttype"] or "empty"
            yield f"disk {disk['name']}", f"{whole}: {', '.join(parts)}" if parts else whole


def _flat(mounts: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for mount in mounts:
        yield mount
        yield from _flat(mount.get("children", ()))
