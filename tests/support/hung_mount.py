"""Run a command in a mount namespace where questions to some directories are never answered.

    hung_mount.py DIRECTORY... -- COMMAND...

As a home on a file server that has gone: each directory becomes a FUSE file system whose program never says a
word (fuse(4): the kernel waits for it, also with the first stat). A process that waits so can be killed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def main() -> None:
    end = sys.argv.index("--")
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *words: object) -> None:
        if getattr(libc, name)(*words):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    for directory in sys.argv[1:end]:
        # Open as long as the command runs: without it the kernel answers at once, with an error.
        device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        call("mount", b"nobody", os.fsencode(directory), b"fuse.silent", 0, options)
    sys.exit(subprocess.run(sys.argv[end + 1 :], timeout=1200, check=False).returncode)


if __name__ == "__main__":
    main()
