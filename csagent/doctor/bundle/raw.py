"""The raw files of a support archive: what has to be parsed again elsewhere, of discovery's own kind.

Leases go through the allow-list of `leases`; NICs, routes, DMI, name servers and labels of drives are written
anew from what was parsed. All is read by a child, with our rights, and looked into once it has none.
"""

from __future__ import annotations

import json
import os
import re
import stat
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.drives import MAX_DEVICES, SYS_BLOCK, UDEV_CONTROL, UDEV_DATA, by_kind
from csagent.discovery.interfaces import PROC_ROUTE
from csagent.doctor.bundle import leases, network
from csagent.doctor.bundle.archive import Member
from csagent.model import Nic, Platform, Route
from csagent.sandbox import jail
from csagent.system.seams import Completed, Runner
from csagent.system.tree import READ_LIMIT

if TYPE_CHECKING:
    from csagent.discovery.candidates import Resolver
    from csagent.discovery.finder import Evidence
    from csagent.doctor.bundle.redaction import Words
    from csagent.model import Found
    from csagent.system.seams import System

PATIENCE = 90.0
LIMITS = jail.READER._replace(cpu=60, answer=32 << 20)
JOURNAL = "/_doctor/journal.txt"
JOURNAL_COMMAND = (
    *("journalctl", "--quiet", "--unit=csagent", "--boot", "--no-pager"),
    *("--lines=500", "--output=short-iso"),
)
JOURNAL_LIMIT = 1 << 20
JOURNAL_SECONDS = 20.0

_PATH = re.compile(r"(?:/[A-Za-z0-9_@+=,:.{}-]{1,120}){1,12}")
_NIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}")
_DMI = re.compile(r"[A-Za-z0-9 .,()+&/_-]{1,128}")
_MAC = re.compile(r"[0-9A-Fa-f:]{1,59}")
_UDEV = re.compile(r"E:(?:ID_FS_LABEL|ID_FS_LABEL_ENC|ID_FS_TYPE|ID_CDROM)=[A-Za-z0-9_.+\\ -]{0,64}")
_JOURNAL = re.compile(r"([0-9T:+.Z-]{10,40})(?: \S+)? (csagent|systemd)(\[[0-9]{1,10}\]): (.*)")


class Raw(NamedTuple):
    """The files, and what could not be put among them: a path or a name, and why."""

    members: Tuple[Member, ...] = ()
    left_out: Tuple[Tuple[str, str], ...] = ()


class Recorder(Runner):
    """Runs commands as another runner does, and keeps what they said."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.heard: Dict[Tuple[str, ...], Completed] = {}

    def available(self, program: str) -> bool:
        return self.inner.available(program)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = READ_LIMIT
    ) -> Completed:
        self.inner.grouped = self.grouped
        done = self.inner.run(argv, stdin=stdin, timeout=timeout, limit=limit)
        self.heard[tuple(argv)] = done
        return done


def gather(system: "System", labels: Sequence[str], words: "Words") -> Raw:
    """Read them, in a child.

    Args:
        system: the machine, a tree or an archive.
        labels: those of a config drive.
        words: what may stay of the journal.

    Raises:
        JailError: the child died.
    """
    from csagent.sandbox import codec, seccomp

    def prepare() -> Tuple[_Collected, Any]:
        return _Collected(system), seccomp.load_library()

    def work(prepared: Tuple[_Collected, Any], _say: jail.Send) -> Any:
        collected, filters = prepared
        if filters is not None:
            filters.load(seccomp.refused_while_discovering)
        return codec.encode(collected.raw(labels, words))

    job = jail.Job("the support archive", system, prepare, work, LIMITS, jail.unprivileged())
    answer = jail.run(job, PATIENCE)
    return codec.decode(Raw, answer)


class _Collected:
    """What is read with our rights: nothing is looked at here but names and times."""

    def __init__(self, system: "System") -> None:
        from csagent.discovery import finder
        from csagent.discovery.recorded import for_nobody

        finder.warm_up()
        self.now = system.clock.now()
        self.as_root = os.geteuid() == 0
        judged = for_nobody(system)
        self.commands = Recorder(judged.runner)
        self.system = judged._replace(runner=self.commands)
        self.evidence: Evidence = finder.prepare(system._replace(runner=self.commands))
        self.network = network.collect(system._replace(runner=self.commands))
        tree, found = system.tree, self.evidence.leases
        self.stats = {path: tree.stat(path) for path in (*found.files, *found.marks)}
        self.udev = list(_udev(system))
        self.carriers = {
            name: tree.read_text(f"/sys/class/net/{name}/carrier", 8) for name in tree.names("/sys/class/net")
        }
        done = system.runner.run(JOURNAL_COMMAND, timeout=JOURNAL_SECONDS, limit=JOURNAL_LIMIT)
        self.journal = done.output.decode("utf-8", "replace")

    def raw(self, labels: Sequence[str], words: "Words") -> Raw:
        """The files of the archive, made from what was collected."""
        from csagent.discovery import finder, interfaces

        found = finder.look(self.system, self.evidence, labels)
        known = interfaces.addresses_known(self.system)
        members = [
            *self._leases(),
            *self._commands(found if known else None, "".join(_of_journal(self.journal, words))),
            *_nics(found.nics, self.carriers),
            Member(PROC_ROUTE, proc_route(found.routes)),
            *(Member(path, f"{value}\n".encode()) for path, value in dmi(found.platform)),
            *map(_resolver, self.evidence.resolvers),
            *self.udev,
            *network.members(self.network),
        ]
        kept = {
            member.path: member if member.mtime else member._replace(mtime=self.now)
            for member in members
            if _is_plain(member.path)
        }
        return Raw(tuple(kept.values()), tuple(self._left_out(members, kept)))

    def _leases(self) -> Iterator[Member]:
        found = self.evidence.leases
        for path, content in found.files.items():
            status = self.stats[path]
            mtime = status.st_mtime if status is not None else 0.0
            yield Member(path, leases.kept(path, content), mtime=mtime)
        for path in found.marks:
            status = self.stats[path]
            yield Member(path, b"", status is not None and stat.S_ISDIR(status.st_mode))

    def _commands(self, found: "Optional[Found]", journal: str) -> Iterator[Member]:
        """recorded.json, and what the commands have said that it lists; `ip` as its answer was understood."""
        listed: Dict[str, str] = {}
        kept = {
            " ".join(argv): self._kept(argv, done.output)
            for argv, done in self.commands.heard.items()
            if done.code == 0
        }
        kept.pop(network.ADDRESSES_LINE, None)
        if found is not None:
            kept[network.ADDRESSES_LINE] = network.addresses(self.network, ip_addr(found.nics))
            kept.update({" ".join(argv): output for argv, output in network.routes(self.network)})
        for number, (line, output) in enumerate(sorted(kept.items()), 1):
            if _is_plain("/" + line.replace(" ", "/")):
                listed[line] = f"_commands/{number}-{line.split(' ')[0]}.txt"
                yield Member("/" + listed[line], output)
        if journal:
            listed[" ".join(JOURNAL_COMMAND)] = JOURNAL[1:]
            yield Member(JOURNAL, journal.encode())
        document = {"now": self.now, "commands": listed}
        yield Member("/recorded.json", json.dumps(document, indent=1).encode() + b"\n")

    def _kept(self, argv: Tuple[str, ...], output: bytes) -> bytes:
        made = network.command(argv, output, self.network)
        return leases.kept(" ".join(argv), output) if made is None else made

    def _left_out(self, members: List[Member], kept: Dict[str, Member]) -> Iterator[Tuple[str, str]]:
        found = self.evidence.leases
        if not self.as_root and self.system.live:
            yield "leases, DMI, journal", "csagent was not run as root, so what only root may read is missing"
        yield from found.unread.items()
        for one in found.distrusted:
            yield one.path, one.reason
        for member in members:
            if member.path not in kept:
                yield ascii(member.path), "a name that is not plain text"


def _is_plain(path: str) -> bool:
    """Whether a path can stand in a list of lines and in any archive."""
    return _PATH.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


def _udev(system: "System") -> Iterator[Member]:
    """What the list of drives takes from udev's database: labels, no serial numbers."""
    tree = system.tree
    if not tree.exists(UDEV_CONTROL):
        return
    yield Member(UDEV_CONTROL, b"")
    for name in by_kind(tree.names(SYS_BLOCK))[:MAX_DEVICES]:
        number = (tree.read_text(f"{SYS_BLOCK}/{name}/dev", 32) or "").strip()
        if re.fullmatch(r"[0-9]{1,7}:[0-9]{1,7}", number):
            lines = (tree.read_text(f"{UDEV_DATA}/b{number}") or "").split("\n")
            text = "".join(f"{line}\n" for line in lines if _UDEV.fullmatch(line))
            yield Member(f"{SYS_BLOCK}/{name}/dev", f"{number}\n".encode())
            yield Member(f"{UDEV_DATA}/b{number}", text.encode())


def _of_journal(text: str, words: "Words") -> Iterator[str]:
    """What csagent said, and systemd of it; not what another program said. The host's name is left out."""
    for line in text.split("\n"):
        entry = _JOURNAL.fullmatch(line)
        if entry:
            yield f"{entry[1]} {entry[2]}{entry[3]}: {words.kept(entry[4])}\n"


# --- written anew ---------------------------------------------------------------------------------


def named(nics: Sequence[Nic]) -> List[Nic]:
    """Those with a usual name; of a MAC address that is none nothing is left."""
    return [
        nic if nic.mac and _MAC.fullmatch(nic.mac) else nic._replace(mac=None)
        for nic in nics
        if _NIC.fullmatch(nic.name)
    ]


def ip_addr(nics: Sequence[Nic]) -> bytes:
    """What `ip -j addr` would say of these NICs."""
    links: List[Dict[str, Any]] = [
        {
            "ifindex": nic.ifindex,
            "ifname": nic.name,
            **({"address": nic.mac} if nic.mac else {}),
            "addr_info": [
                {"family": "inet", "local": address, **({} if prefix is None else {"prefixlen": prefix})}
                for address, prefix in zip_longest(nic.addresses, nic.prefixes)
            ],
        }
        for nic in named(nics)
    ]
    return json.dumps(links, indent=1).encode() + b"\n"


def _nics(nics: Sequence[Nic], carriers: Dict[str, Optional[str]]) -> Iterator[Member]:
    for nic in named(nics):
        carrier = (carriers.get(nic.name) or "").strip()
        values = (("ifindex", str(nic.ifindex)), ("address", nic.mac), ("carrier", carrier))
        for name, value in values:
            if value and (name != "carrier" or value in ("0", "1")):
                yield Member(f"/sys/class/net/{nic.name}/{name}", f"{value}\n".encode())


def proc_route(routes: Sequence[Route]) -> bytes:
    """What /proc/net/route would say of these default routes; it knows one hop of a multipath route only."""
    lines = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    for route in routes:
        if _NIC.fullmatch(route.interface):
            gateway = int.from_bytes(bytes(map(int, route.gateway.split("."))), "little")
            zero = "00000000"
            fields = (route.interface, zero, f"{gateway:08X}", "0003", 0, 0, route.metric, zero, 0, 0, 0)
            lines.append("\t".join(map(str, fields)))
    return "\n".join(lines).encode() + b"\n"


def dmi(platform: Platform) -> Iterator[Tuple[str, str]]:
    """Path and content of the files that say so."""
    from csagent.discovery.dmi import DMI

    names = ("sys_vendor", "product_name", "product_uuid")
    for name, value in zip(names, (platform.vendor, platform.product, platform.uuid)):
        if value and _DMI.fullmatch(value):
            yield DMI + name, value


def _resolver(resolver: "Resolver") -> Member:
    lines = [f"search {resolver.domain}"] if resolver.domain else []
    lines += [f"nameserver {server}" for server in resolver.name_servers]
    return Member(resolver.path, "".join(f"{line}\n" for line in lines).encode())
