"""The command ``csagent lab router``: arguments, the file that is read again, the end by a signal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any, List, Optional, Tuple

from csagent.errors import EXIT_OK, CsagentError
from csagent.lab import cloud as clouds
from csagent.system.argument_types import any_port, host, milliseconds

LOOK_SECONDS = 0.5


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Declare the arguments of ``csagent lab router``."""
    from csagent.lab.password_replies import SHAPES

    parser.add_argument(
        "file", nargs="?", metavar="CLOUD.yaml", help="describes the VM; an example VM without it"
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        type=host,
        default="127.0.0.1",
        help="where to listen (default: %(default)s)",
    )
    parser.add_argument("--port", type=any_port, default=0, help="of the metadata (default: any free port)")
    parser.add_argument(
        "--password-port", type=any_port, default=0, help="of the passwords (default: any free port)"
    )
    parser.add_argument(
        "--shape",
        metavar="SHAPE",
        choices=list(SHAPES),
        default="python3",
        help=f"which password server: {', '.join(SHAPES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--latency", type=milliseconds, default=0.0, metavar="MS", help="milliseconds before each reply"
    )
    parser.add_argument(
        "--style",
        choices=("flat", "directory"),
        default="flat",
        help="listing as a virtual router's, or with directories (default: %(default)s)",
    )
    parser.add_argument("--example", action="store_true", help="print an example of CLOUD.yaml and end")


def run(args: "argparse.Namespace") -> int:
    """``csagent lab router``: serve until SIGINT or SIGTERM.

    Raises:
        UsageError: a bad description.
        CsagentError: the file cannot be read, or the address cannot be listened on.
    """
    if args.example:
        sys.stdout.write(clouds.EXAMPLE)
        return EXIT_OK
    from csagent.lab.router import LabRouter

    router = LabRouter(
        clouds.load(args.file) if args.file is not None else clouds.Cloud(),
        args.listen,
        args.port,
        args.password_port,
        args.shape,
        max(0.0, args.latency) / 1000,
        style=args.style,
        log=_say,
    )
    end = threading.Event()
    before: List[Tuple[int, Any]] = [
        (number, signal.signal(number, lambda *_: end.set())) for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        try:
            router.start()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CsagentError(
                f"cannot listen on {args.listen} port {args.port} and {args.password_port}: {reason}"
            ) from None
        where = f"--router {router.address}:{router.port} --password-port {router.password_port}"
        sys.stdout.write(f"listening; try: csagent --root DIR fetch {where}\n")
        sys.stdout.flush()
        stamp = _stamp(args.file)
        while not end.wait(LOOK_SECONDS):
            now = _stamp(args.file)
            if now is not None and now != stamp:
                stamp = now
                _read_again(router, args.file)
    finally:
        router.stop()
        for number, handler in before:
            signal.signal(number, handler)
    return EXIT_OK


def _read_again(router: Any, path: str) -> None:
    try:
        router.cloud = clouds.load(path)
    except CsagentError as error:
        _say(f"{error}; going on with what it said before")
    else:
        _say(f"{path}: read again")


def _stamp(path: Optional[str]) -> Optional[Tuple[int, int, int]]:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None  # an editor is replacing it
    return found.st_ino, found.st_mtime_ns, found.st_size


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
