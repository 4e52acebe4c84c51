"""QEMU machines as CloudStack's KVM hosts make them, on a network that leads nowhere.

Every machine runs in a network namespace of the test: QEMU's user network maps the guest's 10.1.1.1 to
the namespace's loopback, where the virtual router of the lab listens on ports 80 and 8080. Nothing
that a guest sends can leave the namespace, and the ports are always free.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from image import Installed, run
from netns import Namespace

QEMU = "qemu-system-x86_64"
KVM_DEADLINE = 5.0
BOOT_DEADLINE = 360.0
CONTROL_DEADLINE = 900.0  # of a machine that the test looks into
MEMORY = "640M"
END_OF_REPORT = b"\nend of report"
SERIAL_TAIL = 6000
EJECT_PATIENCE = 60.0  # the kernel asks the drive every 2 s of the guest's
TIMES_SLOWER = 10.0  # than by its own clock an emulated guest may be, on a busy machine


@functools.cache
def accelerator() -> Sequence[str]:
    """KVM where a machine under it answers within a few seconds; opening /dev/kvm proves nothing."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_works():
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi", "-cpu", "max")


@functools.cache
def steady() -> Sequence[str]:
    """As `accelerator`; an emulated processor has 10^9 instructions a second by the guest's own clock.

    Else an emulated guest's clock shows how busy this machine is. What a processor of today does in a
    second is several times as much. While the guest idles its clock goes as ours does.
    """
    if "kvm" in accelerator():
        return accelerator()
    return ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-cpu", "max")


def _kvm_works() -> bool:
    # SeaBIOS without a disk writes "No bootable device" to the serial console (sercon) in under a second.
    command = [QEMU, "-accel", "kvm", "-cpu", "host", "-m", "64M", "-nodefaults", "-display", "none"]
    command += ["-no-user-config", "-machine", "pc,graphics=off", "-serial", "stdio", "-no-reboot"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], KVM_DEADLINE)
        return bool(ready and os.read(process.stdout.fileno(), 1))
    finally:
        process.kill()
        process.stdout.close()
        # A process stuck in the kernel's KVM may not even die; it is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


def connected(path: Path, deadline: float) -> socket.socket:
    """A connection to a socket of QEMU's, which may yet have to make it; `deadline` is its timeout too."""
    end = time.monotonic() + deadline
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(deadline)
    while True:
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            if time.monotonic() > end:
                connection.close()
                raise
            time.sleep(0.05)


class Qmp:
    """QEMU's control socket: one command at a time, events skipped."""

    def __init__(self, path: Path, deadline: float = 10.0) -> None:
        self._socket = connected(path, deadline)
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self._stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Execute one command; what it returns, or RuntimeError with QEMU's words."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = json.loads(self._stream.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error'].get('desc')}")

    def insert(self, drive: str, image: Path) -> None:
        """Put an image into a CD drive ("cd0" or "cd1"), as CloudStack attaches an ISO."""
        self.execute("blockdev-change-medium", device=drive, filename=str(image), format="raw")

    def exchange(self, drive: str, image: Optional[Path]) -> None:
        """Put another image in, or none, as libvirt does: ask the guest, and wait until it lets go.

        Raises:
            AssertionError: the guest has not opened the tray.
        """
        self.execute("blockdev-open-tray", device=drive)
        end = time.monotonic() + EJECT_PATIENCE
        while not self._block(drive)["tray_open"]:
            assert time.monotonic() < end, f"the guest does not let go of {drive}"
            time.sleep(0.05)
        if image is None:
            self.execute("eject", device=drive)
        else:
            self.insert(drive, image)

    def _block(self, drive: str) -> Dict[str, Any]:
        blocks = self.execute("query-block")
        return dict(next(block for block in blocks if block["device"] == drive))

    def eject(self, drive: str) -> None:
        """Take the medium out without asking the guest."""
        self.execute("eject", device=drive, force=True)

    def media(self) -> Dict[str, Optional[str]]:
        """What is in each CD drive."""
        blocks = self.execute("query-block")
        return {
            block["device"]: block["inserted"]["file"] if "inserted" in block else None
            for block in blocks
            if block["device"].startswith("cd")
        }

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._socket.close()


class Control:
    """Commands inside a running guest (guest/csagent-test-control)."""

    def __init__(self, path: Path) -> None:
        self._socket = connected(path, 10.0)
        self._stream = self._socket.makefile("rw", encoding="utf-8")

    def _ask(self, **request: Any) -> Any:
        self._socket.settimeout(TIMES_SLOWER * request["timeout"])
        self._stream.write(json.dumps(request) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise AssertionError("the machine has ended")
        return json.loads(line)

    def run(self, command: str, timeout: float = 30.0, *, check: bool = True) -> str:
        """What a shell command prints, as root; AssertionError if it fails, unless `check` is False."""
        answer = self._ask(run=command, timeout=timeout)
        assert not check or answer["code"] == 0, f"{command}: {answer}"
        return str(answer["output"])

    def wait(self, path: str, pattern: str, start: int = 0, timeout: float = 30.0) -> Optional[str]:
        """What of a file, from an offset on, matches first; None if nothing has after so many seconds.

        The seconds are the guest's. The pattern is searched for with re.MULTILINE.
        """
        answer = self._ask(wait=pattern, file=path, timeout=timeout, **{"from": start})
        return None if answer["found"] is None else str(answer["found"])

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._socket.close()


@dataclass
class Boot:
    """One boot: from power-on until the machine has switched itself off."""

    report: Dict[str, Any]
    seconds: float
    serial: str

    def unit(self, name: str = "unit") -> Dict[str, str]:
        """Properties of csagent.service, as `systemctl show` prints them."""
        return dict(line.split("=", 1) for line in self.report[name].splitlines() if "=" in line)


class Machine:
    """A virtual machine with a disk of its own that keeps what earlier boots wrote."""

    def __init__(
        self,
        installed: Installed,
        directory: Path,
        namespace: Namespace,
        *,
        uuid: str,
        network: bool = True,
        drive: Optional[Path] = None,
        product: str = "CloudStack KVM Hypervisor",
        control: bool = False,
    ) -> None:
        self.control = control
        self.directory = directory
        self.namespace = namespace
        self.disk = directory / "disk.qcow2"
        self.boots = 0
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._began = 0.0
        self._fixed = self._hardware(installed, uuid, network, drive, product)
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", installed.disk, self.disk], 30)

    def _hardware(
        self, installed: Installed, uuid: str, network: bool, drive: Optional[Path], product: str
    ) -> List[str]:
        maker = "Apache Software Foundation"
        words = ["-machine", "pc,graphics=off", "-m", MEMORY, "-nodefaults", "-no-user-config"]
        words += ["-display", "none", "-no-reboot", "-rtc", "base=utc"]
        words += ["-smbios", f"type=1,manufacturer={maker},product={product},uuid={uuid}", "-uuid", uuid]
        words += ["-kernel", str(installed.kernel), "-initrd", str(installed.initrd), "-append"]
        line = "root=/dev/vda rw console=ttyS0 loglevel=4 mitigations=off panic=-1"
        words += [line + (" csagent.test=control" if self.control else "")]
        words += ["-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap"]
        # hdc, for the user's ISOs, empty; hdd, the config drive (facts, section 6.6).
        words += ["-drive", "if=none,id=cd0,media=cdrom", "-device", "ide-cd,bus=ide.1,unit=0,drive=cd0"]
        second = "if=none,id=cd1,media=cdrom" + (f",format=raw,readonly=on,file={drive}" if drive else "")
        words += ["-drive", second, "-device", "ide-cd,bus=ide.1,unit=1,drive=cd1"]
        if network:
            lan = "user,id=lan,net=10.1.1.0/24,host=10.1.1.1,dhcpstart=10.1.1.42,dns=10.1.1.3,ipv6=off"
            words += ["-netdev", f"{lan},domainname=cs2cloud.internal"]
            if self.control:  # a switch between the NIC and the router: another router can take its place
                words += ["-netdev", "hubport,id=port-lan,hubid=0,netdev=lan"]
                words += ["-netdev", "hubport,id=port-nic,hubid=0"]
            nic = "port-nic" if self.control else "lan"
            words += ["-device", f"virtio-net-pci,netdev={nic},mac=02:00:4c:9f:00:05,romfile="]
        else:
            words += ["-nic", "none"]
        if self.control:
            words += [
                "-device",
                "virtio-serial-pci",
                "-device",
                "virtserialport,chardev=control,name=csagent.test",
            ]
            words += ["-device", "virtio-scsi-pci,id=scsi"]
        return words

    def start(self) -> None:
        """Switch it on. It is killed at BOOT_DEADLINE whatever becomes of this process."""
        self.boots += 1
        for path in (self._path("report"), self._path("serial")):
            path.unlink(missing_ok=True)
        life = CONTROL_DEADLINE if self.control else BOOT_DEADLINE + 15
        limit = ["timeout", "--signal=KILL", str(int(life)), QEMU]
        command = [*limit, *(steady() if self.control else accelerator()), *self._fixed]
        if self.control:
            socket_path = self._path("control")
            command += ["-chardev", f"socket,id=control,path={socket_path},server=on,wait=off"]
        command += ["-serial", f"file:{self._path('serial')}", "-serial", f"file:{self._path('report')}"]
        command += ["-qmp", f"unix:{self._path('qmp')},server=on,wait=off"]
        with open(self._path("qemu"), "wb") as errors:
            self._process = subprocess.Popen(
                self.namespace.command(command),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        self._began = time.monotonic()

    def qmp(self) -> Qmp:
        """Connect to QEMU's control socket."""
        return Qmp(self._path("qmp"))

    def shell(self) -> "Control":
        """Connect to the guest's control service; for a machine made with `control`."""
        return Control(self._path("control"))

    def console(self) -> str:
        """The end of what the guest has printed, for a failure."""
        return self._text("qemu") + self._text("serial")[-SERIAL_TAIL:]

    def finish(self) -> Boot:
        """Wait for the report and the power-off.

        Raises:
            AssertionError: no report by the deadline; the end of the console is in it.
        """
        assert self._process is not None
        end = self._began + BOOT_DEADLINE
        try:
            while self._process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            seconds = time.monotonic() - self._began
        finally:
            self.kill()
        serial = self._text("serial")
        raw = self._path("report").read_bytes() if self._path("report").exists() else b""
        if END_OF_REPORT not in raw:
            tail = serial[-SERIAL_TAIL:]
            raise AssertionError(
                f"no report from the guest after {seconds:.0f} s ({' '.join(accelerator())})\n"
                f"{self._text('qemu')}\n--- end of its console:\n{tail}"
            )
        return Boot(json.loads(raw.split(END_OF_REPORT)[0]), seconds, serial)

    def boot(self) -> Boot:
        """Start and finish."""
        self.start()
        return self.finish()

    def kill(self) -> None:
        """Cut the power, if it is on."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()  # `timeout` passes it on, QEMU ends at once and is reaped
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def disk_holds(self, text: bytes) -> bool:
        """Whether anything was written to the disk, by whatever boot, that contains this."""
        previous = b""
        with open(self.disk, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                if text in previous[-len(text) :] + block:
                    return True
                previous = block
        return False

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}-{self.boots}"

    def _text(self, name: str) -> str:
        try:
            return self._path(name).read_text("utf-8", "replace")
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
