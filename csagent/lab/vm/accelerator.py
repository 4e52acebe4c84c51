"""Which processor a virtual machine gets: KVM where it works, else an emulated one."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import subprocess
from typing import Tuple

QEMU = "qemu-system-x86_64"
KVM_DEADLINE = 5.0  # seconds
# KVM's own words, of Intel's and AMD's processors, for: the processor keeps a guest's page tables.
NESTED_PAGING = ("/sys/module/kvm_intel/parameters/ept", "/sys/module/kvm_amd/parameters/npt")
NEWEST = "max"  # QEMU's name of all that it can emulate; EL 10 runs on nothing below x86-64-v3


@functools.lru_cache(maxsize=None)  # noqa: UP033
def accelerator(emulate: str = NEWEST) -> Tuple[str, ...]:
    """QEMU's words: KVM where a machine under it answers within seconds; opening /dev/kvm proves nothing.

    Nor does that answer where KVM keeps a guest's page tables itself, not the processor: it interprets what
    writes to them, and knows some of it only. Linux stopped at its first cmpxchg16b, after a BIOS that had
    started well (kvm_pvm; "KVM internal error. Suberror: 1").

    Args:
        emulate: the processor where there is no KVM. One without AVX is a fifth faster.
    """
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and _nested_paging() and _kvm_works():
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi", "-cpu", emulate)


def emulated() -> bool:
    """Whether machines are some 20 times slower than real ones."""
    return "kvm" not in accelerator()


def steady() -> Tuple[str, ...]:
    """As `accelerator`; an emulated processor has 10^9 instructions a second by the guest's own clock.

    Else an emulated guest's clock shows how busy this machine is. What a processor of today does in a
    second is several times as much. While the guest idles its clock goes as ours does.
    """
    if not emulated():
        return accelerator()
    return ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-cpu", "max")


def _nested_paging() -> bool:
    for parameter in NESTED_PAGING:
        with contextlib.suppress(OSError), open(parameter, encoding="ascii") as stream:
            if stream.read().strip() in ("Y", "1"):
                return True
    return False


@functools.lru_cache(maxsize=None)  # noqa: UP033
def _kvm_works() -> bool:
    # SeaBIOS without a disk writes "No bootable device" to the serial console (sercon) in under a second.
    command = [QEMU, "-accel", "kvm", "-cpu", "host", "-m", "64M", "-nodefaults", "-display", "none"]
    command += ["-no-user-config", "-machine", "pc,graphics=off", "-serial", "stdio", "-no-reboot"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None  # noqa: S101
    try:
        ready, _, _ = select.select([process.stdout], [], [], KVM_DEADLINE)
        return bool(ready and os.read(process.stdout.fileno(), 1))
    finally:
        process.kill()
        process.stdout.close()
        # A process stuck in the kernel's KVM may not even die; it is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
