"""What of the kernel's and the resolver's tables may leave the machine."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Optional, Sequence

from csagent.doctor.bundle.redact_leases import by_line, dump, name_set, read_json
from csagent.model import Nic, Route


def mounts(content: bytes) -> bytes:
    """/proc/mounts: where, what kind, and switches; neither servers nor options with a value."""

    def keep(line: str) -> Optional[str]:
        fields = line.split(" ")
        if len(fields) != 6:
            return None
        source = fields[0] if re.fullmatch(r"/dev/[A-Za-z0-9/_.-]{1,64}|[a-z0-9_]{1,32}", fields[0]) else "-"
        options = [one for one in fields[3].split(",") if re.fullmatch(r"[a-z0-9_]+|errors=[a-z-]+", one)]
        return " ".join((source, fields[1], fields[2], ",".join(options) or "-", *fields[4:]))

    return by_line(content, keep)


def routes(content: bytes) -> bytes:
    """/proc/net/route."""
    row = re.compile(r"[^\s:]{1,15}\s+[0-9A-F]{8}\s+[0-9A-F]{8}\s+[0-9A-F]{4}(?:\s+[0-9A-F]+){4,8}\s*", re.I)
    head = re.compile(r"Iface\s[A-Za-z\s]*")
    return by_line(content, lambda line: line if row.fullmatch(line) or head.fullmatch(line) else None)


def resolv_conf(content: bytes) -> bytes:
    """Name servers, search list, and the options of resolv.conf(5)."""

    def keep(line: str) -> Optional[str]:
        keyword, *values = line.split() or [""]
        kept = [one for one in values if keyword in _RESOLVER and _RESOLVER[keyword].fullmatch(one)]
        return " ".join((keyword, *kept)) if kept else None

    return by_line(content, keep)


_DOMAIN = re.compile(r"[\w.-]{1,253}")
_RESOLVER = {
    "nameserver": re.compile(r"[0-9A-Fa-f.:]{2,45}(?:%[\w.-]{1,15})?"),
    "search": _DOMAIN,
    "domain": _DOMAIN,
    "options": re.compile(
        r"(?:ndots|timeout|attempts):[0-9]{1,3}|debug|rotate|inet6|edns0|trust-ad|no-aaaa|no-reload|use-vc"
        r"|no-check-names|no-tld-query|single-request(?:-reopen)?|ip6-(?:bytestring|dotint)|no-ip6-dotint"
    ),
}


def ip_route(content: bytes) -> bytes:
    """`ip -j route`."""
    found = read_json(content)
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return dump([{key: row[key] for key in row if key in _ROUTE} for row in rows])


_ROUTE = name_set("dst gateway dev metric flags protocol scope prefsrc type")


def made_ip_addr(nics: Sequence[Nic]) -> bytes:
    """What `ip -j addr` would say of these NICs, where there is no such command."""
    return dump(
        [
            {
                "ifindex": nic.ifindex,
                "ifname": nic.name,
                **({"address": nic.mac} if nic.mac else {}),
                "addr_info": [
                    {"family": "inet", "local": address, **({} if prefix is None else {"prefixlen": prefix})}
                    for address, prefix in zip_longest(nic.addresses, nic.prefixes)
                ],
            }
            for nic in nics
        ]
    )


def made_proc_route(routes: Sequence[Route]) -> bytes:
    """What /proc/net/route would say of these default routes; it knows one hop of a multipath route only."""
    lines = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    for route in routes:
        gateway = int.from_bytes(bytes(int(part) for part in route.gateway.split(".")), "little")
        zero = "00000000"
        lines.append(f"{route.interface}\t{zero}\t{gateway:08X}\t0003\t0\t0\t{route.metric}\t{zero}\t0\t0\t0")
    return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n"
