"""What says who has each NIC, for a support archive: `network plan` and doctor's area of that name replay it.

The answers of systemd, networkd and NetworkManager, what the kernel has, and of the files of networkd,
NetworkManager and ifupdown the lines that csagent judges by. Each is written anew from what was parsed: of a
key that is not in a list nothing is left, nor of a word that is no address, number, name of a NIC or path.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, AbstractSet, Any, Dict, List, NamedTuple, Optional, Tuple

from csagent.apply.network import kernel
from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.owners import find, networkd, networkmanager, units
from csagent.apply.network.owners import ifupdown as ifupdown_owner
from csagent.apply.network.recorded_kernel import ADDRESSES, ROUTES
from csagent.apply.network.renderers import ifupdown as ours
from csagent.apply.network.survey import NICS
from csagent.doctor.bundle.archive import Member
from csagent.doctor.bundle.leases import LEFT_OUT
from csagent.doctor.bundle.redaction import REDACTED, name_set
from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.system.seams import System

MOST_NICS, MOST_FILES, SIZE_LIMIT = 32, 200, 64 * 1024
KEYS = name_set(
    "Name OriginalName MACAddress PermanentMACAddress Type Kind MTUBytes Unmanaged DHCP IPv6AcceptRA DNS "
    "Metric GatewayOnLink Destination id uuid type master controller interface-name autoconnect-priority "
    "mac-address mtu method gateway route-metric dns parent "
    "DEVICE HWADDR MASTER TEAM_MASTER BRIDGE BOOTPROTO NM_CONTROLLED ONBOOT"
) | frozenset(networkd.STATIC)
STANZAS = name_set("auto iface source source-directory source-dir mapping allow-hotplug allow-auto")
OPTIONS = name_set(
    "address gateway netmask metric mtu script map vlan-raw-device vlan_raw_device accept_ra"
) | frozenset(ifupdown_owner.PARTS)
WORDS = name_set(
    "yes no true false on off ipv4 ipv6 both auto manual disabled ignore link-local shared dhcp none bootp "
    "static inet inet6 loopback ethernet 802-3-ethernet vlan bond bridge ether lo hotplug csagent"
)
SECTION = re.compile(r"\[(?:Match|Link|Network|Address|Route|DHCPv?[46]?|connection|ethernet|802-3-ethernet"
                     r"|ipv4|ipv6|vlan|Bridge|BridgeVLAN|IPv6AcceptRA)\]")  # fmt: skip
TYPES = ("ethernet", "802-3-ethernet", "vlan", "")  # of profiles: a name of one for Wi-Fi is its network's

STATES = name_set(  # of units, networkctl and nmcli
    "loaded not-found masked bad-setting error active inactive activating deactivating reloading failed "
    "maintenance enabled enabled-runtime disabled static indirect linked linked-runtime masked-runtime "
    "generated transient alias bad ether loopback none wlan off no-carrier dormant degraded-carrier carrier "
    "degraded enslaved routable pending initialized configuring configured unmanaged linger missing "
    "connected "
    "disconnected connecting (externally) (getting IP configuration) (configuring) (prepare) (need "
    "authentication) (checking connectivity) (starting secondary connections) unavailable"
)
PROPERTIES = ("LoadState", "ActiveState", "UnitFileState")

_PATTERN = re.compile(r"[A-Za-z]{0,4}[*?\[\]0-9-]*[*?][*?\[\]0-9-]*")  # "e*", "en*", "eth?"
_NUMBERED = re.compile(r"(?:address|IPADDR|GATEWAY|IPV6ADDR)[0-9]{0,3}")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PATH = re.compile(r"/(?:etc|run|usr|lib|sbin|bin)(?:/[A-Za-z0-9_.@+*-]{1,80}){1,8}")
_NAMES = name_set(
    "Name OriginalName interface-name parent DEVICE MASTER TEAM_MASTER BRIDGE master controller"
)
_OURS = re.compile(r"# csagent [0-9a-f:]{17}")


Names = AbstractSet[str]  # of the machine's links


class Seen(NamedTuple):
    """What was looked at with the rights of csagent: the kernel's state, and files by path."""

    state: Kernel = Kernel()
    files: Tuple[Tuple[str, str], ...] = ()


def collect(system: "System") -> Seen:
    """Look; what the daemons answer is heard by the system's runner."""
    try:
        state = kernel.look(system)
    except ApplyError:
        return Seen()
    known = units.find(system)
    for link in _nics(state):
        find(system, known, link)
    return Seen(state, tuple(_files(system)))


def _nics(state: Kernel) -> List[LinkSeen]:
    return [link for link in state.links if link.kind in NICS][:MOST_NICS]


def _files(system: "System") -> List[Tuple[str, str]]:
    patterns = [
        f"{directory}/{end}"
        for directory in networkd.DIRECTORIES
        for end in ("*.network", "*.network.d/*.conf")
    ]
    patterns += [f"{directory}/*" for directory in networkmanager.KEYFILES] + [networkmanager.IFCFG + "*"]
    patterns += [ifupdown_owner.INTERFACES, ifupdown_owner.INTERFACES + ".d/*", ifupdown_owner.STATE]
    found: List[Tuple[str, str]] = []
    for path in (path for pattern in patterns for path in sorted(system.tree.glob(pattern))):
        status = system.tree.stat(path)
        if len(found) < MOST_FILES and status is not None and status.st_size <= SIZE_LIMIT:
            found.append((path, system.tree.read_text(path) or ""))
    return found


def members(seen: Seen) -> List[Member]:
    """The files, as far as they are judged by."""
    made: List[Member] = []
    names = frozenset(link.name for link in seen.state.links)
    for path, text in seen.files:
        if path.startswith(networkmanager.KEYFILES) and _type_of(text) not in TYPES:
            continue
        by = (
            _interfaces if path.startswith((ifupdown_owner.INTERFACES, ifupdown_owner.STATE)) else _assignment
        )
        lines = [
            line if not line.strip() else by(line.strip(), names) or LEFT_OUT for line in text.split("\n")
        ]
        made.append(Member(path, "\n".join(lines).encode("utf-8", "replace")))
    return made


def _type_of(text: str) -> str:
    found = re.search(r"^type=(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _assignment(line: str, names: Names) -> Optional[str]:
    """A line of a file of sections, or of ifcfg."""
    if line.startswith("["):
        return line if SECTION.fullmatch(line) else "[left-out]"
    if line.startswith("#"):
        return "# Created by cloud-init" if "Created by cloud-init" in line else None
    key, equals, value = line.partition("=")
    key = key.strip()
    if not equals or (key not in KEYS and not _NUMBERED.fullmatch(key)):
        return None
    words = re.split(r"([\s,;]+)", value.strip().strip("\"'"))
    kept = (word if _good(word, names) else REDACTED for word in words)
    return f"{key}={''.join(kept)}"


def _good(word: str, names: Names) -> bool:
    bare = word.lstrip("!/")
    if not word.strip(" \t,;") or word in WORDS or _MAC.fullmatch(word):
        return True
    if bare in names or bare.partition(".")[0] in names or _PATTERN.fullmatch(bare):
        return True
    if re.fullmatch("-?[0-9]{1,5}", word):
        return True
    try:
        ipaddress.ip_interface(word)
    except ValueError:
        return False
    return True


def _interfaces(line: str, names: Names) -> Optional[str]:
    """A line of ifupdown's: what it says of names and addresses; one of ifup's own record."""
    if _OURS.fullmatch(line):
        return line
    name, equals, logical = line.partition("=")
    if equals and name in names:
        return f"{name}={logical if _logical(logical, names) else REDACTED}"
    key, *words = line.split()
    if key not in STANZAS and key not in OPTIONS:
        return None
    good = (_good(word, names) or _PATH.fullmatch(word) or _logical(word, names) for word in words)
    return " ".join([key, *(word if fits else REDACTED for word, fits in zip(words, good))])


def _logical(word: str, names: Names) -> bool:
    """The name of a stanza of csagent's, or of one that is called as its NIC; and where such files lie."""
    bare = word[len(ours.PREFIX) :] if word.startswith(ours.PREFIX) else word
    return bare in names or word in ("interfaces.d/*", "interfaces.d")


def command(argv: Tuple[str, ...], output: bytes, seen: Seen) -> Optional[bytes]:
    """What a command has said, written anew; None where it is none of these."""
    text = output.decode("utf-8", "replace")
    names = frozenset(link.name for link in _nics(seen.state))
    if argv == units.COMMAND:
        return _lines(line for line in text.split("\n") if not line or _of_a_unit(*line.partition("=")))
    if argv == networkd.LIST:
        return _lines(line for line in text.split("\n") if _of_a_link(line.split(), names))
    if argv in [networkd.status(name) for name in names]:
        return _lines(
            f"  Network File: {path}" for path in networkd.FILE.findall(text) if _PATH.fullmatch(path)
        )
    if argv == networkmanager.DEVICES:
        return _rows(
            (device, " ".join(word for word in state.split() if word in STATES), _profile(profile), uuid)
            for device, state, profile, uuid in networkmanager.rows(output, 4)
            if device in names and (not uuid or _UUID.fullmatch(uuid))
        )
    if argv == networkmanager.PROFILES:
        known = {path for path, text in seen.files if _type_of(text) in TYPES and _PATH.fullmatch(path)}
        rows = networkmanager.rows(output, 3)
        return _rows(
            (uuid, path, "") for uuid, path, _active in rows if _UUID.fullmatch(uuid) and path in known
        )
    return None


def _of_a_unit(key: str, _equals: str, value: str) -> bool:
    return (key in PROPERTIES and (not value or value in STATES)) or (key == "Id" and value in units.ALL)


def _of_a_link(words: List[str], names: Names) -> bool:
    return len(words) >= 5 and words[0].isdigit() and words[1] in names and set(words[2:]) <= STATES


def _profile(name: str) -> str:
    own = networkmanager.ITS_OWN
    plain = name.startswith(own) and name[len(own) :].isdigit()
    return name if plain or not name or _OURS.fullmatch(f"# {name}") else REDACTED


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _rows(rows: Any) -> bytes:
    return _lines(":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in row) for row in rows)


def addresses(seen: Seen, before: bytes) -> bytes:
    """What `ip -j addr` says, with what the network's decision needs beside what leases need."""
    links: List[Dict[str, Any]] = json.loads(before)
    found = {link.name: link for link in _nics(seen.state)}
    for entry in links:
        link = found.get(entry["ifname"])
        if link is None:
            continue
        entry.update({"link_type": "ether", **({"mtu": link.mtu} if link.mtu else {})})
        entry.update({"master": link.master} if link.master else {})
        entry["addr_info"] = [_address(one) for one in seen.state.addresses.get(link.ifindex, ())]
    return json.dumps(links, indent=1).encode() + b"\n"


def _address(one: Any) -> Dict[str, Any]:
    local, _, prefix = one.address.partition("/")
    told: Dict[str, Any] = {
        "family": "inet6" if ":" in local else "inet",
        "local": local,
        "prefixlen": int(prefix),
    }
    told["scope"] = "link" if one.link_local else "global"
    flags = (("dynamic", not one.permanent), ("tentative", one.tentative), ("dadfailed", one.duplicate))
    return {**told, **{name: True for name, holds in flags if holds}}


def routes(seen: Seen) -> List[Tuple[Tuple[str, ...], bytes]]:
    """What `ip -j route` says of default routes, in both families."""
    names = {link.ifindex: link.name for link in _nics(seen.state)}
    if not names:
        return []
    made: List[Tuple[Tuple[str, ...], bytes]] = []
    for version, argv in ROUTES:
        entries = [
            {
                "dst": "default",
                **({"gateway": hop.gateway} if hop.gateway else {}),
                "dev": names[index],
                "metric": hop.metric,
            }
            for index, hops in seen.state.routes.items()
            if index in names
            for hop in hops
            if hop.version == version
        ]
        made.append((argv, json.dumps(entries).encode() + b"\n"))
    return made


ADDRESSES_LINE = " ".join(ADDRESSES)
