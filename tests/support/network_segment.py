"""One network segment of CloudStack's: a virtual router with real dnsmasq, and a guest.

The router is a network namespace. The guest is a process tree with namespaces of its own (network,
mount, uts, ipc, pid) whose root is an overlay of a Debian tree: a DHCP client and `csagent apply` run in
it as on a machine, and this machine is not touched. Closing a pipe ends either of them, with all that
runs inside and all that is mounted; so does the end of this process.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from csagent.lab.router import Cloud, LabRouter
from csagent.lab.vm.namespace import Namespace, end_holder
from support.commands_inside import Inside
from support.debian_image import Installed, run
from support.printed_lines import line_of

MAC = "02:00:4c:9f:00:05"
SEARCH_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

# Everything is mounted in the guest's own mount namespace, and gone with it.
GUEST = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=0755 tmpfs dev
mknod -m 0666 dev/null c 1 3
mknod -m 0666 dev/zero c 1 5
mknod -m 0666 dev/full c 1 7
mknod -m 0666 dev/random c 1 8
mknod -m 0666 dev/urandom c 1 9
mknod -m 0666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
ip link set lo up
hostname template
mkdir run/old
pivot_root . run/old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c \
    'umount -l /run/old && rmdir /run/old && echo up && exec cat >/dev/null'
"""


# sysfs is read-only, and not every machine has DMI: /sys/class gets a directory for it, without strings.
FAKE_SYS = """
mkdir /run/sys
mount --rbind /sys/class /run/sys
mount -t tmpfs tmpfs /sys/class
mkdir -p /sys/class/dmi/id
for name in net block; do
    mkdir "/sys/class/$name"
    mount --bind "/run/sys/$name" "/sys/class/$name"
done
"""


class Guest(Inside):
    """A Debian root file system in namespaces of its own, without an init.

    What was written stays in its directory: another one made of that is the same machine at its next boot.
    """

    script = GUEST
    flags = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")

    def __init__(self, installed: Installed, directory: Path) -> None:
        for name in ("upper", "work", "root"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            ["unshare", *self.flags, "sh", "-c", self.script, "guest", str(installed.tree), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if line_of(self._holder) != b"up\n":
            self.close()
            raise RuntimeError("the guest did not start: the error of its script is above")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.pid = int(children[0])

    def _enter(self) -> List[str]:
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid", "--"]
        return [*enter, "env", "-i", SEARCH_PATH, "LC_ALL=C.UTF-8"]

    @contextlib.contextmanager
    def background(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command inside for as long as the block; it then gets SIGTERM."""
        # nsenter --pid forks, and passes no signals on: the command says who it is.
        script = 'echo $$ > "$0"; exec "$@"'
        process = subprocess.Popen(
            [*self._enter(), "sh", "-c", script, "/run/background.pid", *words], stdin=subprocess.DEVNULL
        )
        try:
            yield process
            self.do("sh", "-c", "kill $(cat /run/background.pid)")
            process.wait(600)
        finally:
            process.kill()
            process.wait(600)

    def read(self, path: str) -> str:
        """The text of a file inside."""
        return self.do("cat", path)

    def write(self, path: str, text: str) -> None:
        """Write a file inside, as the owner of the machine would."""
        self.do("sh", "-c", 'printf %s "$1" > "$2"', "sh", text, path)

    def shadow(self, user: str = "root") -> str:
        """The password field of a user's shadow entry."""
        (line,) = [line for line in self.read("/etc/shadow").splitlines() if line.startswith(user + ":")]
        return line.split(":")[1]

    def stamp(self, *paths: str) -> Dict[str, str]:
        """Inode, mode, owner, and time of the last change of files inside."""
        lines = self.do("stat", "--format=%n %i %a %u %g %y", *paths).splitlines()
        return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines}

    def close(self) -> None:
        """End it and everything in it."""
        end_holder(self._holder)


class Segment:
    """The router's side: addresses, dnsmasq configured as CloudStack configures it, lab routers.

    Args:
        directory: for dnsmasq's files.
        guest: the guest that is plugged in.
        addresses: of the router's side, in networks of 24 bits.
        nic: the guest's NIC on this segment.
        mac: of that NIC.
    """

    def __init__(
        self, directory: Path, guest: Guest, addresses: Sequence[str], nic: str = "eth0", mac: str = MAC
    ) -> None:
        self.directory = directory
        self._mac = mac
        self.namespace = Namespace()
        self._dnsmasq: List["subprocess.Popen[bytes]"] = []
        self._routers: List[LabRouter] = []
        try:
            there = ["name", nic, "address", mac, "netns", str(guest.pid)]
            self._ip("link", "add", "eth0", "type", "veth", "peer", *there)
            for address in addresses:
                self._ip("addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    def _ip(self, *words: str) -> None:
        run(self.namespace.command(["ip", *words]), 10)

    def dhcp(
        self,
        server: str,
        offer: str,
        gateway: Optional[str],
        name: str,
        data_server: Optional[str] = None,
        name_server: Optional[str] = None,
        extra: Sequence[str] = (),
    ) -> None:
        """Serve DHCP and DNS at `server`; the options are those of CloudStack's own dnsmasq.conf.

        Without a gateway they are those for a NIC that is not the default: no router, no name server, unless
        one is named. `extra` are lines of dnsmasq.conf.
        """
        hosts, config, log = (self.directory / f"{kind}-{server}" for kind in ("hosts", "conf", "log"))
        hosts.write_text(f"{self._mac},{offer},{name},720h\n")
        tag = "tag:interface-eth0-0"
        lines = ["domain-needed", "bogus-priv", "no-resolv", "no-hosts", "bind-interfaces"]
        lines += ["interface=eth0", "except-interface=lo", f"listen-address={server}"]
        lines += ["domain=cs2cloud.internal", f"dhcp-hostsfile={hosts}", "dhcp-ignore=tag:!known"]
        lines += ["dhcp-boot=pxelinux.0", "leasefile-ro", f"dhcp-range=set:interface-eth0-0,{server},static"]
        lines += [f"dhcp-option={tag},15,cs2cloud.internal", f"dhcp-option={tag},1,255.255.255.0"]
        # An option without a value is not sent; without the line dnsmasq would send its own address.
        lines += [f"dhcp-option={tag},3,{gateway}", f"dhcp-option={tag},6,{server}"] if gateway else []
        lines += (
            []
            if gateway
            else [f"dhcp-option={tag},3", f"dhcp-option={tag},6,{name_server or ''}".rstrip(",")]
        )
        lines += extra
        lines += [f"host-record=data-server,{data_server}"] if data_server else []
        lines += ["user=root", "pid-file=", "log-dhcp", f"log-facility={log}"]
        config.write_text("\n".join(lines) + "\n")
        command = self.namespace.command(["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"])
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._dnsmasq.append(process)
        end = time.monotonic() + 120
        while not (log.exists() and "started" in log.read_text()):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dnsmasq did not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.02)

    def end_dhcp(self, number: int) -> None:
        """End one of the DHCP servers, in the order in which they were started."""
        self._dnsmasq[number].kill()
        self._dnsmasq[number].wait(300)

    def router(self, cloud: Cloud, address: str, **options: Any) -> LabRouter:
        """A virtual router's metadata and password server at an address of this segment."""
        router = LabRouter(cloud, address=address, **options)
        self.namespace.call(router.start)
        self._routers.append(router)
        return router

    def close(self) -> None:
        """End all of it."""
        for router in self._routers:
            router.stop()
        for process in self._dnsmasq:
            process.kill()
            process.wait(600)
        self.namespace.close()


@contextlib.contextmanager
def isolated(guest: Guest, directory: Path, server: str, address: str) -> Iterator[Segment]:
    """A guest on an isolated network, whose one server leases it this address; both end with it."""
    with contextlib.closing(guest), contextlib.closing(Segment(directory, guest, [server])) as segment:
        segment.dhcp(server, address, server, "web-01")
        yield segment
