"""A machine in good health, in files and in what its commands say; tests make it ill in one place."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from csagent.apply.authorized_keys import merge
from csagent.cli import doctor
from csagent.doctor import engine
from csagent.doctor.bundle import bundle, recorded
from csagent.doctor.checks import last_pass, places
from csagent.doctor.context import Situation
from csagent.doctor.finding import Finding
from csagent.doctor.seen import Seen
from csagent.model import Found, Lease, Nic, Place, Platform, Route
from csagent.settings import Settings
from csagent.system.seams import NOT_INSTALLED, Completed, Runner, System
from csagent.system.tree import READ_LIMIT, Step, Tree
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

NOW = 1_795_233_917
TODAY = NOW // 86400
HASH = "$y$j9T$EXAMPLE-hash"
ADDRESSES = [
    {
        "ifindex": 2,
        "ifname": "eth0",
        "link_type": "ether",
        "address": "02:00:4c:9f:00:05",
        "addr_info": [{"family": "inet", "local": "10.1.1.42", "prefixlen": 24, "scope": "global"}],
    }
]
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0101010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
LEASE = (
    "ADDRESS=10.1.1.42\nNETMASK=255.255.255.0\nROUTER=10.1.1.1\nSERVER_ADDRESS=10.1.1.1\nT1=2592000\n"
    "LIFETIME=5184000\nDOMAINNAME=cs2cloud.internal\nHOSTNAME=web01\n"
)
SSHD = """\
usepam yes
permitrootlogin yes
pubkeyauthentication yes
passwordauthentication yes
kbdinteractiveauthentication no
strictmodes yes
authorizedkeyscommand none
authenticationmethods any
requiredrsasize 1024
pubkeyacceptedalgorithms ssh-ed25519,sk-ssh-ed25519@openssh.com,rsa-sha2-512,rsa-sha2-256
authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
"""
UNITS = """\
Id=csagent.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
Result=success
NRestarts=0
ExecMainStatus=0
NeedDaemonReload=no

Id=ssh.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
Result=success
NRestarts=0

Id=sshd.service
LoadState=not-found
ActiveState=inactive
"""
STATS: Dict[str, Tuple[int, int]] = {  # mode and owner
    "/": (stat.S_IFDIR | 0o755, 0),
    "/home": (stat.S_IFDIR | 0o755, 0),
    "/root": (stat.S_IFDIR | 0o700, 0),
    "/root/.ssh": (stat.S_IFDIR | 0o700, 0),
    "/root/.ssh/authorized_keys": (stat.S_IFREG | 0o600, 0),
    "/bin/bash": (stat.S_IFREG | 0o755, 0),
}
SPACE = """\
Filesystem     1024-blocks   Used Available Capacity Mounted on
/dev/vda1          8000000 900000   7100000      12% /
/dev/vda1          8000000 900000   7100000      12% /
tmpfs                50000   1000     49000       2% /run
/dev/vda1          8000000 900000   7100000      12% /
"""
INODES = SPACE.replace("1024-blocks", "Inodes")
MOUNTS = "/dev/vda1 / ext4 rw,relatime 0 0\ntmpfs /run tmpfs rw,nosuid 0 0\n"
STATUS: Dict[str, Any] = {
    "schema": 1,
    "version": last_pass.__version__,
    "instance_id": INSTANCE,
    "source_found": True,
    "started": NOW - 60.0,
    "finished": NOW - 59.0,
    "exit_code": 0,
    "note": None,
    "data": {
        "hostname": {"state": "applied", "reason": "CloudStack says web01", "source": "router 10.1.1.1"},
        "ssh_keys": {"state": "applied", "reason": "first pass: 1 key for root", "source": "router 10.1.1.1"},
        "password": {"state": "applied", "reason": "it was offered", "acknowledged": "yes"},
        "user_data": {"state": "absent", "reason": "no source gave any"},
    },
    "places": [],
}
SEEN = Seen(
    looked=True,
    places=(
        Place("router 10.1.1.1", "DHCP server of eth0", "ok", "10 metadata keys", 0.004),
        Place("password server 10.1.1.1:8080", "DHCP server of eth0", "ok", "no password is waiting", 0.003),
        Place("drive", "block devices with the label config-2", "absent", "no device carries it"),
    ),
    source_found=True,
    instance_id=INSTANCE,
    password="none",
    password_given=True,
    keys_given=True,
    key_types=("ssh-ed25519",),
)
FOUND = Found(
    nics=(Nic("eth0", 2, "02:00:4c:9f:00:05", ("10.1.1.42",)),),
    routes=(Route("eth0", "10.1.1.1"),),
    default_interface="eth0",
    leases=(
        Lease(
            *("eth0", "systemd-networkd", "10.1.1.42", "10.1.1.1", ("10.1.1.1",)),
            path="/run/systemd/netif/leases/2",
        ),
    ),
    platform=Platform("Apache Software Foundation", "CloudStack KVM Hypervisor", INSTANCE, True),
)


class PatientTree(Tree):
    """A tree that knows better than its file system what some paths are."""

    def __init__(self, root: str, stats: Dict[str, Optional[Tuple[int, int]]]) -> None:
        super().__init__(root)
        self.stats = stats

    def stat(self, path: str, *, follow: bool = True) -> Optional[os.stat_result]:
        if path not in self.stats:
            return super().stat(path, follow=follow)
        known = self.stats[path]
        return None if known is None else os.stat_result((known[0], 0, 0, 1, known[1], known[1], 0, 0, 0, 0))

    def resolve(
        self, path: str, *, follow: bool = True, visit: Optional[Callable[[Step], None]] = None
    ) -> Tuple[int, str]:
        def tell(step: Step) -> None:
            known = self.stat(step.path, follow=False) if step.path in self.stats else None
            if visit is not None:
                visit(Step(step.path, known or step.status, step.descriptor))

        return super().resolve(path, follow=follow, visit=tell if visit is not None else None)


class PatientRunner(Runner):
    """Answers a command by how it begins."""

    def __init__(self, outputs: Dict[str, str], refusals: Dict[str, str]) -> None:
        self.outputs, self.refusals = outputs, refusals

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = READ_LIMIT
    ) -> Completed:
        line = " ".join(argv)
        refusals = [
            text for beginning, text in self.refusals.items() if f"{line} ".startswith(f"{beginning} ")
        ]
        if refusals:
            return Completed(255, b"", refusals[0].encode())
        answers = [text for beginning, text in self.outputs.items() if f"{line} ".startswith(f"{beginning} ")]
        return Completed(0, answers[0].encode(), b"") if answers else NOT_INSTALLED


class Patient:
    """A machine that can be changed and examined, and saved as its support archive, unpacked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings()
        self.found, self.seen = FOUND, SEEN
        self.stats: Dict[str, Optional[Tuple[int, int]]] = dict(STATS)
        self.write("/etc/passwd", "root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\n")
        self.write("/etc/hostname", "web01\n")
        self.write("/etc/group", "root:x:0:\nsudo:x:27:alice\nalice:x:1000:\n")
        self.write("/etc/shadow", f"root:{HASH}:{TODAY - 10}:0:99999:7:::\n")
        keys = merge("", [make_key(1)])
        self.write("/root/.ssh/authorized_keys", keys)
        self.write("/etc/ssh/ssh_host_ed25519_key", "EXAMPLE")
        self.write("/etc/ssh/sshd_config", "PermitRootLogin yes\nUsePAM yes\n")
        self.write("/proc/mounts", MOUNTS)
        self.write("/proc/net/route", ROUTES)
        self.write("/run/systemd/netif/leases/2", LEASE)
        for name, value in (("address", "02:00:4c:9f:00:05"), ("ifindex", "2"), ("carrier", "1")):
            self.write(f"/sys/class/net/eth0/{name}", value + "\n")
        self.write("/sys/class/dmi/id/sys_vendor", "Apache Software Foundation\n")
        self.write("/sys/class/dmi/id/product_name", "CloudStack KVM Hypervisor\n")
        self.status: Optional[Dict[str, Any]] = json.loads(json.dumps(STATUS))
        self.refusals: Dict[str, str] = {}
        self.outputs = {
            "ip -j addr": json.dumps(ADDRESSES),
            "sshd -T": SSHD,
            "systemctl show": UNITS,
            "df -P -k": SPACE,
            "df -P -i": INODES,
        }

    def write(self, path: str, text: str) -> None:
        """Put a file in, its directories too."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        """Change a file; what is changed must be there."""
        text = (self.root / path.lstrip("/")).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    def says(self, command: str, text: str) -> None:
        """What a command that begins so prints."""
        self.outputs[command] = text

    def refuses(self, command: str, text: str) -> None:
        """What a command that begins so says on its standard error, and fails."""
        self.refusals[command] = text

    def sshd(self, old: str, new: str) -> None:
        """Change a line of what sshd -T prints."""
        assert old in self.outputs["sshd -T"]
        self.outputs["sshd -T"] = self.outputs["sshd -T"].replace(old, new)

    def without_sshd_t(self, text: str) -> None:
        """sshd -T fails; its file says this."""
        del self.outputs["sshd -T"]
        self.write("/etc/ssh/sshd_config", text)

    def system(self) -> System:
        """The machine; recorded, so that its accounts are not those of the one that runs the tests."""
        self.write("/recorded.json", json.dumps({"now": NOW, "commands": {}}))
        known = System.at(str(self.root))
        return known._replace(
            tree=PatientTree(str(self.root), self.stats), runner=PatientRunner(self.outputs, self.refusals)
        )

    def save(self) -> None:
        """Write recorded.json, the last pass, and the report, as in an archive."""
        examined = self.examined()
        report = {**doctor.as_json(examined), "what": "machine"}
        self.write("/_commands/addr.json", self.outputs["ip -j addr"])
        commands = {"ip -j addr": "_commands/addr.json"}
        self.write("/recorded.json", json.dumps({"now": NOW, "commands": commands}))
        self.write(recorded.REPORT, json.dumps(report))

    def examined(self) -> engine.Examined:
        """What doctor finds on the machine; without the children that `examine` starts."""
        situation = self.situation()
        return engine.Examined(situation, tuple(self._findings(situation)), places.no_source(situation))

    def situation(self, *, tree: bool = False) -> Situation:
        """What the probes get."""
        system = self.system()
        if self.status is not None:
            self.write("/run/csagent/status.json", json.dumps(self.status))
        if tree:
            (self.root / "recorded.json").unlink()
            system = System.at(str(self.root))
        status, status_problem = last_pass.load_status(system)
        account, problem = engine._account(system, self.settings)
        seen = Seen() if tree else self.seen
        return Situation(
            system, self.settings, "", self.found, "", seen, status, status_problem, account, problem
        )

    def findings(self, *areas: str, tree: bool = False) -> List[Finding]:
        """What the probes say, of these areas or of all."""
        return list(self._findings(self.situation(tree=tree), *areas))

    def _findings(self, situation: Situation, *areas: str) -> Iterator[Finding]:
        for area, probe in engine.checks():
            if not areas or area in areas:
                yield from engine.run(area, probe, situation)

    def wrong(self, *areas: str) -> List[Finding]:
        """The problems and warnings."""
        return bad(self.findings(*areas))

    def archived(self) -> List[Finding]:
        """What doctor finds, as a support archive has it."""
        examined = self.examined()
        return list(bundle.redacted(examined, bundle.known_words(examined)).findings)

    def lose(self, datum: str) -> None:
        """As if CloudStack had never given it."""
        assert self.status is not None
        self.status["data"][datum] = {"state": "absent", "reason": "no source gave it"}
        given = "password_given" if datum == "password" else "keys_given"
        self.seen = replace(self.seen, **{given: False})


def bad(findings: Iterable[Finding]) -> List[Finding]:
    """The problems and warnings among them."""
    return [one for one in findings if one.state in ("problem", "warning")]


Illness = Callable[[Patient], None]


def wrong(document: Dict[str, Any]) -> List[Dict[str, str]]:
    """The problems and warnings of a report."""
    return [one for one in document["findings"] if one["state"] in ("problem", "warning")]
