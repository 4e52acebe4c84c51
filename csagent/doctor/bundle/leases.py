"""What of a lease may leave the machine: the statements that a lease is made of, whoever's format it is in.

A line of a known form with one of NAMES is written anew from what was parsed; anything else gives way to a
remark, so that the lines keep their places. A file that is no lease (a link to somewhere else, say) has no
such lines, and nothing of it is left.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any, Optional

from csagent.discovery.leases import dhcpcd
from csagent.discovery.leases.dhclient import statement
from csagent.doctor.bundle.redaction import name_set
from csagent.system import json_limits

LEFT_OUT = "# left out"
BLANKS = " \t\r\x0b\x0c"

# Options by ISC's names; NetworkManager, dhcpcd and udhcpc write them with _ for -.
OPTIONS = name_set(
    "subnet-mask routers domain-name-servers domain-name domain-search broadcast-address host-name "
    "interface-mtu ntp-servers static-routes rfc3442-classless-static-routes classless-static-routes "
    "dhcp-lease-time dhcp-renewal-time dhcp-rebinding-time dhcp-message-type dhcp-server-identifier "
    "dhcp-requested-address ip-address expiry"
)
STATEMENTS = name_set("interface fixed-address next-server renew rebind expire")  # dhclient's
UNDERSCORED = frozenset(name.replace("-", "_") for name in OPTIONS | STATEMENTS)
# By client: networkd, wicked (leaseinfo, XML), klibc, udhcpc, dhcpcd, NetworkManager, connman.
OTHERS = name_set(
    "ADDRESS NETMASK ROUTER SERVER_ADDRESS NEXT_SERVER BROADCAST MTU T1 T2 LIFETIME DNS NTP DOMAINNAME "
    "DOMAIN_SEARCH_LIST HOSTNAME ROUTES ADMIN_STATE OPER_STATE CARRIER_STATE ADDRESS_STATE "
    "TYPE FAMILY INTERFACE STATE ACQUIRED IPADDR PREFIXLEN GATEWAYS DNSSERVERS DNSDOMAIN DNSSEARCH LEASETIME "
    "RENEWALTIME REBINDTIME SERVERID BOOTSERVERADDR "
    "family type state acquired update lease-time renewal-time rebind-time address server-id gateway server "
    "domain search server-address netmask broadcast mtu hostname "
    "DEVICE PROTO IPV4ADDR IPV4BROADCAST IPV4NETMASK IPV4GATEWAY IPV4DNS0 IPV4DNS1 ROOTSERVER DHCPLEASETIME "
    "ip siaddr serverid router dns lease subnet mask opt53 "
    "protocol reason network_number subnet_cidr "
    "managed nm-owned "
    "IPv4.method IPv4.DHCP.LastAddress"
)
NAMES = OPTIONS | UNDERSCORED | STATEMENTS | {f"dhcp4.{name}" for name in UNDERSCORED} | OTHERS
# Besides these in what networkctl --json prints.
MEMBERS = NAMES | name_set(
    "Index Name Type HardwareAddress MTU AdministrativeState OperationalState Addresses Routes DNS Family "
    "Address Destination DestinationPrefixLength PrefixLength Gateway ConfigSource ConfigProvider "
    "ConfigState DHCPv4Client Lease LeaseTimestampUSec Timeout1USec Timeout2USec Message options tag data"
)
# Whose value is a name, or a list of them, or hexadecimal; of any other these words besides numbers.
NAMED = name_set(
    "interface INTERFACE DEVICE Name host-name host_name dhcp4.host_name HOSTNAME hostname "
    "domain-name domain_name dhcp4.domain_name DOMAINNAME DNSDOMAIN domain"
)
SEARCH_LISTS = name_set("domain-search domain_search dhcp4.domain_search DOMAIN_SEARCH_LIST DNSSEARCH search")
HEXADECIMAL = name_set("data siaddr")
WORDS = name_set(
    "dhcp bootp ipv4 granted true false never epoch off carrier no-carrier degraded-carrier degraded "
    "routable configured configuring pending initialized unmanaged failed linger BOUND RENEW REBIND REBOOT "
    "ether DHCPv4 static foreign runtime"
)
NAME_CODES = (12, 15)  # host and domain name
CODES = frozenset((1, 2, 3, 6, 26, 28, 33, 42, 50, 51, 52, 53, 54, 55, 57, 58, 59, 121, *NAME_CODES))
SECTIONS = ("device", "dhcp4", "dhcp6")

_PAIR = re.compile(r"()([A-Za-z_][A-Za-z0-9_.-]*)(=)(.*)", re.DOTALL)
_SECTION = re.compile(r"\[([^\[\]]+)\]\s*")
_ELEMENT = re.compile(r"\s*<([a-z-]+)>([^<>]*)</\1>\s*")
_NMCLI = re.compile(r"(DHCP4\.OPTION\[[0-9]{1,4}\]:\s*)([a-z0-9_]+)( = )(.*)")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_BETWEEN = re.compile(r"([\s,\0]+)")
_QUOTED = re.compile(r"(['\"]*)(.*?)(['\"]*)", re.DOTALL)
_NUMBER = re.compile(
    r"[0-9]{1,5}|[0-9]{1,3}(?:\.[0-9]{1,3}){1,3}(?:/[0-9]{1,20}){0,6}"  # networkd writes routes so
    r"|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{1,2}(?::[0-9]{1,2}){1,2}|(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
)
_SECONDS = re.compile(r"[0-9]{1,15}")
_TIMED = re.compile(r"(?i)[a-z0-9_.-]*(?:time|t1|t2|expire|expiry|acquired|renew|rebind|lease)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,511}")
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,510}")
_DOMAIN = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,200}\.[a-z]{2,24}")


def kept(source: str, content: bytes) -> bytes:
    """A lease file, or what a client's command has printed, without what is no part of a lease.

    Args:
        source: the file's path, or the command line.
        content: what it says.
    """
    if any(fnmatch.fnmatchcase(source, pattern) for pattern in dhcpcd.FILES):
        return _message(content)
    if source.endswith(".json") or source.startswith("networkctl "):
        return _document(content)
    return by_line(content)


def by_line(content: bytes) -> bytes:
    """Every line as `_line` makes it."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    made = [line if not line.strip(BLANKS) else _line(line.rstrip("\r")) or _remark(line) for line in lines]
    return "\n".join(made).encode("utf-8", "surrogateescape")


def _remark(line: str) -> str:
    """In the place of a line; in a damaged file it says that a block was begun, or wicked's has ended."""
    if line.rstrip().endswith("</lease>"):
        return f"{LEFT_OUT}</lease>"
    return f"{LEFT_OUT}: lease {{" if "lease {" in line else LEFT_OUT


def _line(line: str) -> Optional[str]:
    bare = line.strip()
    if bare in ("lease {", "}", "<lease>", "</lease>") or _ADDRESS.fullmatch(bare):
        return line.rstrip()
    section = _SECTION.fullmatch(line)
    if section:
        return line.rstrip() if section[1] in SECTIONS else "[left-out]"
    pair = _PAIR.fullmatch(line) or _NMCLI.fullmatch(line.rstrip())
    if pair:
        before, name, equals, value = pair.groups()
        return f"{before}{name}{equals}{_value(value, name)}" if name in NAMES else None
    element = _ELEMENT.fullmatch(line)
    if element:
        name, value = element.groups()
        return f"<{name}>{_value(value, name)}</{name}>" if name in NAMES else None
    name, value = statement(line)
    known, option = STATEMENTS, ""
    if name == "option":
        known, option = OPTIONS, "option "
        name, _, value = value.partition(" ")
    begun = " # lease {" if "lease {" in line else ""
    return f"  {option}{name} {_value(value, name)};{begun}" if name in known else None


def _value(text: str, key: str) -> str:
    """A value word by word: numbers, addresses, known words, and where they belong one name, or domains."""
    pieces = _BETWEEN.split(text)
    named = False
    for place in range(0, len(pieces), 2):
        before, word, after = _QUOTED.fullmatch(pieces[place]).groups()  # type: ignore[union-attr]
        number = _NUMBER.fullmatch(word) or (_SECONDS.fullmatch(word) and _TIMED.fullmatch(key))
        good = not word or word in WORDS or number is not None
        if not good and key in NAMED and not named:
            good = named = _NAME.fullmatch(word) is not None
        elif not good:
            good = (key in SEARCH_LISTS and _DOMAIN.fullmatch(word) is not None) or (
                key in HEXADECIMAL and _HEXADECIMAL.fullmatch(word) is not None
            )
        if not good:
            pieces[place] = "?" if set(before + after) & set(word) else f"{before}?{after}"
    return "".join(pieces)


def _document(content: bytes) -> bytes:
    try:
        document = json_limits.loads(content)
    except (ValueError, RecursionError):
        return LEFT_OUT.encode()
    return json.dumps(_members(document), indent=1).encode() + b"\n"


def _members(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        data = value.get("data")
        if value.get("tag") in NAME_CODES and isinstance(data, str):
            value = {**value, "data": _hexadecimal(data)}
        return {name: _members(one, name) for name, one in value.items() if name in MEMBERS}
    if isinstance(value, list):
        return [
            _members(one, key) for one in value if not isinstance(one, dict) or one.get("tag", 1) in CODES
        ]
    return _value(value, key) if isinstance(value, str) else value


def _hexadecimal(data: str) -> str:
    try:
        return _one_name(bytes.fromhex(data)).hex()
    except ValueError:
        return ""


def _one_name(raw: bytes) -> bytes:
    """The first word of an option that is a name, and nothing behind it; its length stays."""
    first = raw.decode("ascii", "replace").replace("\0", " ").split()[:1]
    return "".join(one for one in first if _NAME.fullmatch(one)).encode().ljust(len(raw), b"\0")


def _message(content: bytes) -> bytes:
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
        end_of_it = place + 2 + length
        if code in NAME_CODES:
            area[place + 2 : end_of_it] = _one_name(bytes(area[place + 2 : end_of_it]))
        elif code not in CODES:
            area[place + 2 : end_of_it] = bytes(length)
        place = end_of_it
    area[place + 1 : end] = bytes(max(0, end - place - 1))
