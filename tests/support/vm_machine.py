"""The lab's machines, with what only these tests put into them: a report, and a way to give commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from csagent.lab.vm import machine as lab
from csagent.lab.vm.accelerator import accelerator, steady
from csagent.lab.vm.namespace import Namespace
from csagent.lab.vm.qmp import connected
from support import debian_image
from support.debian_image import Installed

BOOT_DEADLINE = 1300.0  # on a machine that does much else
CONTROL_DEADLINE = 1800.0  # of a machine that the test looks into
OLDER = "Nehalem,+rdrand"  # emulated in four fifths of the time that the newest takes
END_OF_REPORT = b"\nend of report"
TIMES_SLOWER = 20.0  # than by its own clock an emulated guest may be, on a busy machine
# An emulated timer may be held up by what else this machine does: the kernel is not to test it.
COMMAND_LINE = f"{debian_image.COMMAND_LINE} no_timer_check"


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


class Machine(lab.Machine):
    """A machine of the tests' image in a namespace; with `control` it takes commands, else it reports.

    `steadily` costs speed, and makes the guest's clock independent of how busy this machine is (`steady`).
    """

    def __init__(
        self,
        installed: Installed,
        directory: Path,
        namespace: Namespace,
        *,
        uuid: str,
        network: bool = True,
        drive: Optional[Path] = None,
        product: str = lab.PRODUCT,
        control: bool = False,
        steadily: bool = True,
    ) -> None:
        self.control = control
        self.namespace = namespace
        super().__init__(
            installed.template(COMMAND_LINE + (" csagent.test=control" if control else "")),
            directory,
            uuid=uuid,
            devices=_devices(network, control),
            drive=drive,
            product=product,
            processor=steady() if control and steadily else accelerator(OLDER),
            life=CONTROL_DEADLINE if control else BOOT_DEADLINE + 15,
            enter=namespace.command,
        )

    def start(self, *words: str) -> None:
        """Switch it on, with a second serial port for its report."""
        following = self.boots + 1
        (self.directory / f"report-{following}").unlink(missing_ok=True)
        more = ["-serial", f"file:{self.directory / f'report-{following}'}", *words]
        if self.control:
            path = self.directory / f"control-{following}"
            more += ["-chardev", f"socket,id=control,path={path},server=on,wait=off"]
            more += ["-device", "virtio-serial-pci"]
            more += ["-device", "virtserialport,chardev=control,name=csagent.test"]
        super().start(*more)

    def shell(self) -> "Control":
        """Connect to the guest's control service; for a machine made with `control`."""
        return Control(self.path("control"))

    def finish(self) -> Boot:
        """Wait for the report and the power-off.

        Raises:
            AssertionError: no report by the deadline; the end of the console is in it.
        """
        try:
            self.wait_off(BOOT_DEADLINE)
            seconds = self.seconds
        finally:
            self.kill()
        raw = self.path("report").read_bytes() if self.path("report").exists() else b""
        if END_OF_REPORT not in raw:
            raise AssertionError(
                f"no report from the guest after {seconds:.0f} s ({' '.join(accelerator())})\n"
                f"--- end of its console:\n{self.console()}"
            )
        return Boot(json.loads(raw.split(END_OF_REPORT)[0]), seconds, self.text("serial"))

    def boot(self) -> Boot:
        """Start and finish."""
        self.start()
        return self.finish()

    def disk_holds(self, text: bytes) -> bool:
        """Whether anything was written to the disk, by whatever boot, that contains this."""
        previous = b""
        with open(self.disk, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                if text in previous[-len(text) :] + block:
                    return True
                previous = block
        return False


def _devices(network: bool, control: bool) -> List[str]:
    # The NIC comes first: its name in the guest, ens2, is that of its slot.
    more = ["-device", "virtio-scsi-pci,id=scsi"] if control else []
    if not network:
        return ["-nic", "none", *more]
    words = ["-netdev", lab.user_network()]
    if not control:
        return words + lab.nic()
    # A switch between the NIC and the router: another router can take its place.
    words += ["-netdev", "hubport,id=port-lan,hubid=0,netdev=lan"]
    words += ["-netdev", "hubport,id=port-nic,hubid=0"]
    return [*words, *lab.nic("port-nic"), *more]
