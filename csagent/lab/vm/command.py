"""The command ``csagent lab vm IMAGE``: does a template keep its promises on CloudStack?"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Optional

from csagent.errors import CsagentError, UsageError
from csagent.system.argument_types import seconds

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "timeout": "coreutils",
}
SBIN = "/usr/sbin:/sbin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``csagent lab vm``."""
    parser.epilog = (
        "The image must have sshd, let --user in with a key, and boot from a\n"
        "virtio disk. Nothing is written to it: copies of it are booted, and they\n"
        "reach nobody but the lab's router. Needs QEMU and ssh, not root; takes a\n"
        "minute with KVM, some without.\n\n"
        "exit codes: 0 all promises are kept, 1 some are not, 2 usage"
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the template: a qcow2 or raw disk")
    scenarios = ("router", "drive", "user-data", "network")
    parser.add_argument("--only", choices=scenarios, help="one of the scenarios")
    parser.add_argument(
        "--user-data",
        metavar="FILE",
        type=Path,
        help="try this document, too: on a copy of its own, over two boots",
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="a scenario more: a NIC without DHCP, whose addresses are on the drive",
    )
    parser.add_argument(
        "--one-by-one", action="store_true", help="never two VMs at a time, whatever there is of processors"
    )
    parser.add_argument("--user", default="root", help="the account with CloudStack's keys (default: root)")
    parser.add_argument("--memory", default="640M", metavar="SIZE", help="of each VM (default: %(default)s)")
    parser.add_argument(
        "--cpu",
        default="max",
        metavar="MODEL",
        help="emulated where there is no KVM (default: %(default)s; Nehalem is a fifth faster)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="from power-on to sshd (default: 180, emulated 900)",
    )
    boot = parser.add_argument_group("boot", "without these, the disk's own boot loader by way of the BIOS")
    boot.add_argument("--kernel", metavar="FILE", type=Path, help="boot this kernel")
    boot.add_argument("--initrd", metavar="FILE", type=Path, help="with this initramfs")
    boot.add_argument("--append", metavar="LINE", default="", help="and this command line")
    boot.add_argument("--firmware", metavar="FILE", type=Path, help="instead of the BIOS, such as OVMF.fd")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep consoles, logs and disks in DIR")
    parser.add_argument("--json", action="store_true", help="for programs; documented, only grows")
    parser.add_argument(
        "--verbose", action="count", default=argparse.SUPPRESS, help="say on standard error what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """``csagent lab vm``: boot copies, judge, report.

    Raises:
        UsageError: an image that is none, options that contradict each other, a tool that is missing.
        CsagentError: no network namespace.
    """
    from csagent.lab.vm.run import Trial

    ends = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        ends.append(signal.SIGHUP)
    before = {number: signal.signal(number, _ended) for number in ends}
    os.environ["PATH"] = os.environ.get("PATH", "") + ":" + SBIN
    try:
        _check(args)
        return Trial(args, _format_of(args.image)).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(number: int, _frame: Optional[FrameType]) -> None:
    sys.exit(128 + number)


def _check(args: argparse.Namespace) -> None:
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if missing:
        raise UsageError(f"csagent lab vm needs {', '.join(sorted(missing))} (Debian's names of packages)")
    if args.kernel is None and (args.initrd is not None or args.append):
        raise UsageError("--initrd and --append need --kernel")
    for path in (args.image, args.kernel, args.initrd, args.firmware):
        if path is None:
            continue
        try:
            kind = os.stat(path).st_mode
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)) or not os.access(path, os.R_OK):
            raise UsageError(f"{path}: not a file that can be read")
    if args.only == "user-data" and args.user_data is None:
        raise UsageError("--only user-data needs --user-data FILE")
    if args.keep is not None and args.keep.exists() and (not args.keep.is_dir() or any(args.keep.iterdir())):
        raise UsageError(f"--keep {args.keep}: not a new or empty directory")
    if args.user.startswith("-") or not args.user.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--user {args.user!r}: not the name of an account")


def _format_of(image: Path) -> str:
    words = ["qemu-img", "info", "--output=json", str(image)]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise UsageError(" ".join(done.stderr.split()).replace("qemu-img: ", "", 1))
    try:
        kind = str(json.loads(done.stdout)["format"])
    except (ValueError, KeyError):
        raise CsagentError(f"{image}: what qemu-img says of it is not understood") from None
    if kind not in ("qcow2", "raw"):
        raise UsageError(f"{image}: a {kind} image; qcow2 and raw can be booted")
    return kind
