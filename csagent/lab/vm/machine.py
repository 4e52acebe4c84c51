"""QEMU machines as CloudStack's KVM hosts make them, on a network that leads nowhere.

QEMU runs in a network namespace without a way out, and its user network maps the guest's 10.1.1.1 to that
namespace's loopback, where the virtual router of the lab listens on ports 80 and 8080. Nothing that a guest
sends can leave, and the ports are always free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from csagent.errors import CsagentError
from csagent.lab.vm.accelerator import QEMU, accelerator
from csagent.lab.vm.qmp import Qmp

MEMORY = "640M"
MAKER, PRODUCT = "Apache Software Foundation", "CloudStack KVM Hypervisor"
LAN = "net=10.1.1.0/24,host=10.1.1.1,dhcpstart=10.1.1.42,dns=10.1.1.3,ipv6=off,domainname=cs2cloud.internal"
MAC = "02:00:4c:9f:00:05"
SERIAL_TAIL = 6000
# What Linux says, before it has read or written a disk, and goes no further, if an emulated timer ticks too
# late: check_timer in arch/x86/kernel/apic/io_apic.c waits for a few ticks, by the clock of this machine.
HELD_UP = "Kernel panic - not syncing: IO-APIC + timer doesn't work"


@dataclass(frozen=True)
class Template:
    """What is booted: a disk that is only ever read, and by what if not by its own boot loader."""

    disk: Path
    format: str  # qcow2 | raw
    kernel: Optional[Path] = None
    initrd: Optional[Path] = None
    append: str = ""
    firmware: Optional[Path] = None


def user_network(*, ports: Sequence[Tuple[int, int]] = (), reachable: bool = True) -> str:
    """QEMU's words for the network named `lan`: DHCP, and 10.1.1.1 in front of loopback.

    Args:
        ports: of loopback and the guest's, for connections into it.
        reachable: without it the guest reaches nobody: what it sends is dropped (DHCP still answers).
    """
    words = f"user,id=lan,{LAN}" + ("" if reachable else ",restrict=on")
    return words + "".join(f",hostfwd=tcp:127.0.0.1:{ours}-:{guests}" for ours, guests in ports)


def nic(network: str = "lan") -> List[str]:
    """QEMU's words for the NIC on a network."""
    return ["-device", f"virtio-net-pci,netdev={network},mac={MAC},romfile="]


class Machine:
    """A virtual machine with a disk of its own that keeps what earlier boots wrote.

    Args:
        template: what its disk is a copy of.
        directory: for the disk, the sockets and the consoles.
        uuid: by which CloudStack knows it.
        devices: further words for QEMU; a machine has no NIC but those in here.
        drive: what is in the second CD drive.
        product: DMI's name of it.
        memory: as QEMU has it.
        processor: QEMU's words; None finds out whether there is KVM.
        life: seconds after which one boot is killed, whatever becomes of this process.
        enter: makes a command line of another that runs inside a namespace.
    """

    def __init__(
        self,
        template: Template,
        directory: Path,
        *,
        uuid: str,
        devices: Sequence[str] = (),
        drive: Optional[Path] = None,
        product: str = PRODUCT,
        memory: str = MEMORY,
        processor: Optional[Sequence[str]] = None,
        life: float = 375.0,
        enter: Callable[[Sequence[str]], List[str]] = list,
    ) -> None:
        self.directory = directory
        self.disk = directory / "disk.qcow2"
        self.boots = self.restarts = 0  # restarts: of the present boot
        self.drive = drive
        self._life, self._enter, self._processor = life, enter, processor
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._switch = threading.Lock()
        self._over = False
        self._began = 0.0
        self._words: Sequence[str] = ()
        self._fixed = self._hardware(template, uuid, product, memory) + list(devices)
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", template.format]
        words += ["-b", os.path.abspath(template.disk), str(self.disk)]
        made = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        if made.returncode != 0:
            raise CsagentError(f"{template.disk}: {' '.join(made.stderr.split())}")

    def _hardware(self, template: Template, uuid: str, product: str, memory: str) -> List[str]:
        words = ["-machine", "pc,graphics=off", "-m", memory, "-nodefaults", "-no-user-config"]
        words += ["-display", "none", "-no-reboot", "-rtc", "base=utc"]
        words += ["-smbios", f"type=1,manufacturer={MAKER},product={product},uuid={uuid}", "-uuid", uuid]
        if template.firmware is not None:
            words += ["-bios", str(template.firmware)]
        if template.kernel is not None:
            words += ["-kernel", str(template.kernel), "-append", template.append]
            words += ["-initrd", str(template.initrd)] if template.initrd is not None else []
        return [*words, "-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap"]

    def _drives(self) -> List[str]:
        # hdc, for the user's ISOs, empty; hdd, the config drive (field/cloudstack#6.6).
        words = ["-drive", "if=none,id=cd0,media=cdrom", "-device", "ide-cd,bus=ide.1,unit=0,drive=cd0"]
        medium = f",format=raw,readonly=on,file={self.drive}" if self.drive else ""
        words += ["-drive", f"if=none,id=cd1,media=cdrom{medium}"]
        return [*words, "-device", "ide-cd,bus=ide.1,unit=1,drive=cd1"]

    def start(self, *words: str) -> None:
        """Switch it on; `words` are QEMU's for this boot. It ends with the thread that started it.

        Raises:
            CsagentError: it was ended.
        """
        self.boots += 1
        self.restarts = 0
        self._words = words
        self._power_on()

    def start_again(self) -> None:
        """Switch it off and on; it stays the same boot, and the console of each try is kept.

        Raises:
            CsagentError: it was ended.
        """
        self.kill()
        self.restarts += 1
        with contextlib.suppress(FileNotFoundError):
            self.path("serial").rename(f"{self.path('serial-try')}-{self.restarts}")
        self._power_on()

    def end(self) -> None:
        """Cut the power, from whatever thread, for good."""
        with self._switch:
            self._over = True
            self.kill()

    def _power_on(self) -> None:
        with self._switch:
            if self._over:
                raise CsagentError("it was ended")
            self._run()

    def _run(self) -> None:
        # QEMU dies with `timeout`, which leads a process group, and `timeout` with us, whichever way we end.
        limit = ["setpriv", "--pdeathsig", "TERM", "timeout", "--signal=KILL", str(int(self._life))]
        command = [*limit, "setpriv", "--pdeathsig", "KILL", QEMU]
        command += [*(self._processor or accelerator()), *self._fixed, *self._drives()]
        command += ["-serial", f"file:{self.path('serial')}", *self._words]
        command += ["-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        self.path("serial").unlink(missing_ok=True)
        with open(self.path("qemu"), "wb") as errors:
            self._process = subprocess.Popen(
                self._enter(command),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._began = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether it is on."""
        return self._process is not None and self._process.poll() is None

    @property
    def held_up(self) -> bool:
        """Whether its kernel gave up on a timer that came too late: `start_again` is all there is to do."""
        return HELD_UP in self.text("serial")

    @property
    def seconds(self) -> float:
        """Since it was switched on."""
        return time.monotonic() - self._began

    def wait_off(self, until: float) -> bool:
        """Wait until it has switched itself off, at most until so many seconds after its start."""
        while self.running and self.seconds < until:
            time.sleep(0.1)
        return not self.running

    def qmp(self) -> Qmp:
        """Connect to QEMU's control socket."""
        return Qmp(self.path("qmp"))

    def console(self) -> str:
        """The end of what QEMU and the guest have printed, for a failure."""
        return self.text("qemu") + self.text("serial")[-SERIAL_TAIL:]

    def kill(self) -> None:
        """Cut the power, if it is on."""
        if self._process is None or not self.running:
            return
        self._process.terminate()  # `timeout` passes it on, QEMU ends at once and is reaped
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def path(self, name: str) -> Path:
        """A file of the present boot."""
        return self.directory / f"{name}-{self.boots}"

    def text(self, name: str) -> str:
        """The text of a file of the present boot."""
        try:
            return self.path(name).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""


@contextlib.contextmanager
def killed_at_end(*machines: Machine) -> Iterator[None]:
    """No machine outlives the block."""
    try:
        yield
    finally:
        for machine in machines:
            machine.kill()
