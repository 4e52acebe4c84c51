"""Debian with a real systemd as process 1, at native speed: systemd-nspawn on an overlay of a cached tree.

A tree (mmdebstrap, half a minute) has all three network managers; which of them is in use is decided before
a container boots, in half a second. csagent's package lies in a layer of its own between tree and overlay.
There is no udev in it, so that ifup@.service and netplan apply do not work; kernels, device names and media
want tests/vm. Everything ends with this process: the mounts are in a mount namespace of nspawn's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from csagent.lab.vm.namespace import Namespace
from support.build_cache import cached, key_of
from support.commands_inside import Inside
from support.debian_image import WITHOUT_DOCS, bootstrapped, run

TOOLS = (
    "systemd-nspawn",
    "mmdebstrap",
    "unshare",
    "nsenter",
    "ip",
    "dnsmasq",
    "dpkg-deb",
    "systemctl",
    "setpriv",
)
SUITES = ("bullseye", "bookworm", "trixie")
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "iproute2", "procps", "passwd", "libseccomp2"),
    *("python3", "python3-yaml", "python3-netifaces", "python3-pyudev"),
    *("network-manager", "ifupdown", "isc-dhcp-client", "netplan.io"),
)
MORE_PACKAGES = {
    "bookworm": ("systemd-resolved",),
    "trixie": ("systemd-resolved",),
}  # a part of systemd before

CUSTOMIZE = r"""
set -e
echo guest > "$1/etc/hostname"
echo 0123456789abcdef0123456789abcdef > "$1/etc/machine-id"
rm -f "$1/etc/resolv.conf"
chroot "$1" passwd --quiet --lock root
systemctl --quiet --root="$1" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service console-getty.service \
    getty.target systemd-journal-catalog-update.service ldconfig.service systemd-update-done.service
"""

UNITS = {
    "systemd-networkd": "systemd-networkd.service",
    "NetworkManager": "NetworkManager.service",
    "ifupdown": "networking.service",
}
RESOLVED = "systemd-resolved.service"

# The lower directories, the directory of the overlay, and the unit changes that come before the boot. Without
# systemd-resolved its resolvconf goes, too: NetworkManager would hand all name servers to it.
BOOT = r"""
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
if [ -n "$3" ]; then systemctl --quiet --root="$2/root" mask $3; fi
if [ -n "$4" ]; then systemctl --quiet --root="$2/root" enable $4; fi
if [ -n "$5" ]; then rm -f "$2/root/usr/sbin/resolvconf" "$2/root/sbin/resolvconf"; fi
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --register=no --keep-unit --quiet --private-network \
    -D "$2/root" --boot --console=read-only
"""

UP = 600.0  # seconds; half of one on an idle machine
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8")


def tree(suite: str) -> Path:
    """The tree of a release, from the cache or built now; it is only read."""
    packages = [*PACKAGES, *MORE_PACKAGES.get(suite, ())]

    def make(new: Path) -> Path:
        return bootstrapped(new, suite, packages, f"--customize-hook={CUSTOMIZE}", *WITHOUT_DOCS)

    return cached(f"container-{suite}", key_of([suite, *packages, CUSTOMIZE]), make)


def layer(deb: Path, directory: Path) -> Path:
    """What csagent's package puts on the disk, without its scripts: to be laid over any tree."""
    run(["dpkg-deb", "--extract", deb, directory], 60)
    if (directory / "lib").is_dir():  # which is a link in the trees, and must stay one
        shutil.copytree(directory / "lib", directory / "usr/lib", dirs_exist_ok=True)
        shutil.rmtree(directory / "lib")
    directory.chmod(0o755)
    return directory


class Container(Inside):
    """One machine.

    Args:
        lower: what lies below, the uppermost first.
        directory: for the overlay; what was written stays there over `kill` and another `boot`.
        manager: of UNITS, the one that is in use; None: none of them.
        resolved: whether systemd-resolved is.
    """

    deadline = 600.0  # seconds that a command may take

    def __init__(
        self, lower: Sequence[Path], directory: Path, manager: Optional[str], *, resolved: bool = False
    ) -> None:
        for name in ("upper", "work", "root"):
            (directory / name).mkdir(parents=True)
        self.directory = directory
        self.upper = directory / "upper"
        self._lower = ":".join(map(str, lower))
        used = [UNITS[manager]] if manager else []
        used += [RESOLVED] if resolved else []
        self._mask = " ".join(unit for unit in (*UNITS.values(), RESOLVED) if unit not in used)
        self._enable = " ".join(used)
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self.pid = 0

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file that is there before the boot."""
        target = self.upper / path.lstrip("/")
        missing = [one for one in target.parents if self.upper in one.parents and not one.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o755)
        target.write_text(text)
        target.chmod(mode)

    def start(self) -> None:
        """Begin to boot: process 1 is there when this returns."""
        words = ["sh", "-c", BOOT, "boot", self._lower, str(self.directory), self._mask, self._enable]
        words.append("" if RESOLVED in self._enable else "none")
        with open(self.directory / "console", "ab") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.pid = self._until(self._init, "has no process 1")

    def boot(self) -> None:
        """Boot, and wait until systemd is done with it."""
        self.start()
        self.up()

    def up(self) -> None:
        """Wait until systemd is done with the boot."""
        self._until(lambda: self.run("systemctl", "is-system-running").stdout.strip() in DONE, "is not up")

    def _until(self, condition: Any, what: str) -> Any:
        end = time.monotonic() + UP
        while True:
            value = condition()
            if value:
                return value
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > end:
                console = (self.directory / "console").read_text("utf-8", "replace")[-3000:]
                raise RuntimeError(f"the container {what}:\n{console}")
            time.sleep(0.05)

    def _init(self) -> int:
        """Process 1 as this machine sees it: below systemd-nspawn, and called systemd."""
        assert self._process is not None
        pending = [self._process.pid]
        while pending:
            pid = pending.pop()
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                for child in map(int, children):
                    if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                        return child
                    pending.append(child)
        return 0

    def _enter(self) -> List[str]:
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        return [*enter, "--root", "--wd", "--", *ENVIRONMENT]

    def popen(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command inside, with a pipe at its output."""
        return subprocess.Popen(
            [*self._enter(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def read(self, path: str) -> str:
        """The text of a file inside."""
        return self.do("cat", path)

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file inside, as the owner of the machine would."""
        self.do("sh", "-c", 'printf %s "$1" > "$2" && chmod "$3" "$2"', "sh", text, path, mode)

    def addresses(self, nic: str) -> List[str]:
        """The addresses of a NIC, but for the kernel's own link-local ones."""
        words = ["ip", "-j", "addr", "show", "dev", nic]
        infos = json.loads(self.do(*words))[0]["addr_info"]
        return sorted(f"{one['local']}/{one['prefixlen']}" for one in infos if one["scope"] == "global")

    def routes(self, version: int = 4) -> List[Dict[str, Any]]:
        """The default routes, as `ip -j route` says them, the best first."""
        found = json.loads(self.do("ip", "-j", f"-{version}", "route", "show", "default"))
        return sorted(found, key=lambda route: int(route.get("metric", 0)))

    def kill(self) -> None:
        """As a power cut: what was written is on the disk, nothing is told."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(600)
        self._process = None
        self.pid = 0

    def journal(self) -> str:
        """The end of the journal, for the message of a test that fails."""
        return self.run("journalctl", "--no-pager", "-n", "60").stdout


DONE = ("running", "degraded")


class Network:
    """Bridges in a namespace: what is on the other side of the NICs."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        self._count = 0
        self._dnsmasq: List["subprocess.Popen[bytes]"] = []

    def ip(self, *words: str) -> str:
        """Run ip(8) inside."""
        return run(self.namespace.command(["ip", *words]), 20).stdout

    def bridge(self, name: str, *addresses: str) -> str:
        """A bridge with these addresses, as a gateway has them; its name."""
        self.ip("link", "add", name, "type", "bridge")
        self.ip("link", "set", name, "up")
        for address in addresses:
            self.address(name, address)
        return name

    def address(self, bridge: str, address: str) -> None:
        """One more address of a bridge."""
        self.ip("addr", "add", address, "dev", bridge, *(["nodad"] if ":" in address else []))

    def no_address(self, bridge: str, address: str) -> None:
        """The gateway is switched off."""
        self.ip("addr", "del", address, "dev", bridge)

    def plug(self, container: Container, bridge: str, nic: str, mac: str) -> None:
        """A NIC more in a container, with its cable in a bridge."""
        self._count += 1
        there = ["name", nic, "address", mac, "netns", str(container.pid)]
        self.ip("link", "add", f"port{self._count}", "type", "veth", "peer", *there)
        self.ip("link", "set", f"port{self._count}", "master", bridge, "up")

    def dhcp(self, bridge: str, server: str, mac: str, address: str, directory: Path) -> None:
        """Serve DHCP on a bridge to one NIC."""
        log = directory / f"dnsmasq-{bridge}.log"
        lines = ["port=0", "bind-interfaces", f"interface={bridge}", "except-interface=lo", "leasefile-ro"]
        lines += [f"dhcp-range={server},static,255.255.255.0", f"dhcp-host={mac},{address},1h"]
        lines += [f"dhcp-option=3,{server}", "user=root", "pid-file=", f"log-facility={log}"]
        config = directory / f"dnsmasq-{bridge}.conf"
        config.write_text("\n".join(lines) + "\n")
        command = self.namespace.command(["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"])
        self._dnsmasq.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        end = time.monotonic() + 20
        while not (log.exists() and re.search("started", log.read_text())):
            if time.monotonic() > end:
                raise RuntimeError("dnsmasq did not start")
            time.sleep(0.02)

    def close(self) -> None:
        """End all of it."""
        for process in self._dnsmasq:
            process.kill()
            process.wait(600)
        self.namespace.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network, for as long as the block."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
