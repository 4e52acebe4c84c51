"""What of a DHCP client's word may leave the machine: the lines and options that a lease is made of.

Everything else in such a file is dropped, whatever it is: a line's place stays, so that what a parser
makes of the rest does not change. A file that is none of the client's (a link to somewhere else, say) has
no such lines, and nothing of it is left.
"""

from __future__ import annotations

import json
import re
from typing import AbstractSet, Any, Callable, Dict, FrozenSet, Optional

from csagent.discovery.leases import dhcpcd
from csagent.discovery.leases.dhclient import statement
from csagent.system import json_limits

LEFT_OUT = "# left out"
BLANKS = " \t\r\x0b\x0c"


def name_set(names: str) -> FrozenSet[str]:
    """The words of a text."""
    return frozenset(names.split())


# Options by ISC's names; NetworkManager, dhcpcd and udhcpc write them with _ for -.
OPTIONS = name_set(
    "subnet-mask routers domain-name-servers domain-name domain-search broadcast-address host-name "
    "interface-mtu ntp-servers static-routes rfc3442-classless-static-routes classless-static-routes "
    "ms-classless-static-routes time-offset dhcp-lease-time dhcp-renewal-time dhcp-rebinding-time "
    "dhcp-message-type dhcp-server-identifier dhcp-requested-address dhcp-max-message-size "
    "dhcp-option-overload dhcp-parameter-request-list"
)
CODES = frozenset((1, 2, 3, 6, 12, 15, 26, 28, 33, 42, 50, 51, 52, 53, 54, 55, 57, 58, 59, 119, 121))
PLAIN = name_set("interface fixed-address next-server renew rebind expire bootp")
UNDERSCORED = frozenset(name.replace("-", "_") for name in OPTIONS) | name_set(
    "interface protocol reason pid ip_address network_number subnet_cidr next_server server_identifier "
    "expiry requested_subnet_mask interface_order rfc3442_classless_static_routes"
)
NETWORKD = name_set(
    "ADDRESS NETMASK ROUTER SERVER_ADDRESS NEXT_SERVER BROADCAST MTU T1 T2 LIFETIME DNS NTP DOMAINNAME "
    "DOMAIN_SEARCH_LIST HOSTNAME ROUTES ADMIN_STATE OPER_STATE CARRIER_STATE ADDRESS_STATE "
    "IPV4_ADDRESS_STATE IPV6_ADDRESS_STATE ONLINE_STATE REQUIRED_FOR_ONLINE NETWORK_FILE DOMAINS "
    "DHCP_LEASE REQUIRED_OPER_STATE_FOR_ONLINE REQUIRED_FAMILY_FOR_ONLINE ACTIVATION_POLICY"
)
WICKED = name_set(
    "LEASEFILE TYPE FAMILY INTERFACE UPDATE STATE ACQUIRED HOSTNAME IPADDR NETMASK NETWORK BROADCAST "
    "PREFIXLEN GATEWAYS DNSSERVERS DNSDOMAIN DNSSEARCH NTPSERVERS LEASETIME RENEWALTIME REBINDTIME "
    "SERVERID BOOTSERVERADDR SENDERHWADDR MTU ROUTES"
)
WICKED_XML = name_set(
    "family type state acquired update lease-time renewal-time rebind-time address server-id gateway "
    "server domain search server-address netmask broadcast mtu local prefix nexthop hostname"
)
KLIBC = name_set(
    "DEVICE PROTO IPV4ADDR IPV4BROADCAST IPV4NETMASK IPV4GATEWAY IPV4DNS0 IPV4DNS1 HOSTNAME DNSDOMAIN "
    "ROOTSERVER DHCPLEASETIME UPTIME DOMAINSEARCH"
)
UDHCPC = name_set(
    "interface ip siaddr serverid router domain search dns lease subnet mask broadcast mtu hostname "
    "ntpsrv opt53"
)
CONNMAN = name_set("IPv4.method IPv4.DHCP.LastAddress IPv6.method Modified AutoConnect Favorite")
NM_DEVICE = name_set("managed nm-owned next-server connection-uuid route-metric-default-effective")
NM = NM_DEVICE | frozenset(f"dhcp4.{name}" for name in UNDERSCORED) | NETWORKD
NM_SECTIONS = frozenset(("device", "dhcp4", "dhcp6"))
NETWORKCTL = name_set(
    "Index Name Type Driver HardwareAddress MTU AdministrativeState OperationalState CarrierState "
    "AddressState IPv4AddressState OnlineState NetworkFile Addresses Routes DNS NTP SearchDomains"
)
IP_LINK = name_set("ifindex ifname flags mtu operstate link_type address addr_info")
IP_ADDRESS = name_set("family local prefixlen broadcast scope dynamic")

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_SECTION = re.compile(r"\[([^\[\]]+)\]\s*")
_TEXT_ELEMENT = re.compile(r"\s*<([a-z-]+)>([^<>]*)</\1>\s*")
_TAG = re.compile(r"\s*</?[a-z0-9:-]{1,32}/?>\s*")
_NMCLI = re.compile(r"DHCP4\.OPTION\[[0-9]+\]:\s*([a-z0-9_]+) = .*")
_OPTION_LINE = re.compile(r"\s*option ([a-z0-9.-]{1,48}) ")
_DIGITS = re.compile(r"[0-9.]{0,15}")


def by_line(content: bytes, keep: Callable[[str], Optional[str]]) -> bytes:
    """Every line as `keep` makes it; None: a remark stands in its place."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    last = len(lines) - 1
    kept = []
    for number, line in enumerate(lines):
        said = line if not line.strip(BLANKS) else keep(line)
        if said is None and number == last:
            said = LEFT_OUT  # without an end, as it was: it is no whole line then either
        kept.append(LEFT_OUT if said is None else said)
    return "\n".join(kept).encode("utf-8", "surrogateescape")


def pairs(keys: AbstractSet[str], sections: AbstractSet[str] = frozenset()) -> Callable[[bytes], bytes]:
    """A sanitiser for `KEY=value` lines, which keeps those with one of the keys."""

    def keep(line: str) -> Optional[str]:
        match = _PAIR.fullmatch(line.rstrip("\r"))
        if match:
            return line if match.group(1) in keys else None
        header = _SECTION.fullmatch(line) if sections else None
        if header:
            return line if header.group(1) in sections else "[left-out]"
        return None

    return lambda content: by_line(content, keep)


def dhclient(content: bytes) -> bytes:
    """Lease blocks; of an option that a lease does not need only the name is left."""
    return by_line(content, _dhclient_line)


def _dhclient_line(line: str) -> Optional[str]:
    if line.rstrip() in ("lease {", "}"):
        return line
    key, value = statement(line)
    if key in PLAIN or (key == "option" and value.split(" ", 1)[0] in OPTIONS):
        return line
    if "lease {" in line:
        return f"{LEFT_OUT}: lease {{"  # whether a block was begun and cut short is told apart
    named = _OPTION_LINE.match(line)
    return f"  option {named.group(1)} left-out;" if key == "option" and named else None


def dhcpcd_message(content: bytes) -> bytes:
    """A raw DHCP message with the content of all other options, and of what is none, set to zero."""
    if len(content) < 240 or content[236:240] != dhcpcd.MAGIC:
        return bytes(len(content))
    area = bytearray(content)
    overload = dhcpcd.options(content).get(dhcpcd.OVERLOAD, b"")
    _blank(area, 240, len(area))
    for start, end, walked in ((44, 108, (b"\x02", b"\x03")), (108, 236, (b"\x01", b"\x03"))):
        if overload in walked:
            _blank(area, start, end)
        else:
            area[start:end] = bytes(end - start)
    return bytes(area)


def _blank(area: bytearray, place: int, end: int) -> None:
    while place < end and area[place] != dhcpcd.END:
        if area[place] == dhcpcd.PAD:
            place += 1
            continue
        if place + 1 >= end or place + 2 + area[place + 1] > end:
            area[place + 2 : end] = bytes(max(0, end - place - 2))  # it claims more than there is
            return
        code, length = area[place], area[place + 1]
        if code not in CODES:
            area[place + 2 : place + 2 + length] = bytes(length)
        place += 2 + length
    area[place + 1 : end] = bytes(max(0, end - place - 1))


def udhcpc_hook(content: bytes) -> bytes:
    """An address and nothing else."""
    return by_line(content, lambda line: line if _DIGITS.fullmatch(line.strip()) else None)


def wicked_xml(content: bytes) -> bytes:
    """The elements of a lease, as wicked writes them: one a line."""

    def keep(line: str) -> Optional[str]:
        element = _TEXT_ELEMENT.fullmatch(line)
        if element:
            return line if element.group(1) in WICKED_XML else None
        if _TAG.fullmatch(line):
            return line
        return (
            f"{LEFT_OUT}</lease>" if line.rstrip(BLANKS).endswith("</lease>") else None
        )  # its end, if damaged

    return by_line(content, keep)


def cloud_init_json(content: bytes) -> bytes:
    """The object that cloud-init's udhcpc script writes."""
    said = read_json(content)
    if not isinstance(said, dict):
        return LEFT_OUT.encode()
    known = OPTIONS | PLAIN
    return dump({key: value for key, value in said.items() if key in known and not _nested(value)})


def nmcli(content: bytes) -> bytes:
    """`nmcli -f DHCP4 device show IF`."""

    def keep(line: str) -> Optional[str]:
        match = _NMCLI.fullmatch(line.rstrip())
        return line if match and match.group(1) in UNDERSCORED else None

    return by_line(content, keep)


def networkctl(content: bytes) -> bytes:
    """`networkctl --json=short status IF`."""
    said = read_json(content)
    if not isinstance(said, dict):
        return LEFT_OUT.encode()
    kept: Dict[str, Any] = {key: value for key, value in said.items() if key in NETWORKCTL}
    client = said.get("DHCPv4Client")
    lease = client.get("Lease") if isinstance(client, dict) else None
    if isinstance(lease, dict):
        message = lease.get("Message")
        message = message if isinstance(message, dict) else {}
        options = message.get("options")
        times = {key: value for key, value in lease.items() if not _nested(value) and key.endswith("USec")}
        kept["DHCPv4Client"] = {
            "Lease": {
                **times,
                "Message": {
                    "siaddr": None if _nested(message.get("siaddr")) else message.get("siaddr"),
                    "options": [
                        {"tag": one["tag"], "data": one.get("data")}
                        for one in (options if isinstance(options, list) else ())
                        if isinstance(one, dict) and one.get("tag") in CODES
                    ],
                },
            }
        }
    return dump(kept)


def ip_addr(content: bytes) -> bytes:
    """`ip -j addr`."""
    links = read_json(content)
    kept = []
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict):
            continue
        one = {key: value for key, value in link.items() if key in IP_LINK}
        infos = link.get("addr_info")
        one["addr_info"] = [
            {key: value for key, value in info.items() if key in IP_ADDRESS and not _nested(value)}
            for info in (infos if isinstance(infos, list) else ())
            if isinstance(info, dict)
        ]
        kept.append(one)
    return dump(kept)


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list))


def read_json(content: bytes) -> Any:
    """What a program has written as JSON; None where it is none."""
    try:
        return json_limits.loads(content)
    except (ValueError, RecursionError):
        return None


def dump(document: Any) -> bytes:
    """JSON as we write it."""
    return json.dumps(document, indent=1).encode() + b"\n"
