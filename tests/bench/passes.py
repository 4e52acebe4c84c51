"""What a pass costs, as ratios taken in one run: `./dev bench [RUNS]`.

Each row is the median wall time of whole processes, one of each kind in turn, after a warm-up. The router is
csagent's own lab router in a process of its own, on loopback; the tree is a scratch directory.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List

BIN = os.path.dirname(sys.executable)
CSAGENT = [sys.executable, "-I", os.path.join(BIN, "csagent")]
RUNS = 15

ROUTER = """
import sys
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
extra = {f"key-{number}": "value" for number in range(int(sys.argv[1]))}
cloud = Cloud(user_data=b"#!/bin/sh" * 100)
cloud = Cloud(user_data=cloud.user_data, metadata={**cloud.metadata, **extra})
router = LabRouter(cloud, latency=float(sys.argv[2]))
router.start()
print(router.port, router.password_port, flush=True)
for number, _line in enumerate(sys.stdin):
    router.change(password=f"EXAMPLE-{number}")
    print(len(router.requests), flush=True)
"""


class Router:
    """A lab router in a process of its own."""

    def __init__(self, extra_keys: int = 0, latency: float = 0.0) -> None:
        command = [sys.executable, "-c", ROUTER, str(extra_keys), str(latency)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port, password_port = self._line().split()
        self.places = ["--router", f"127.0.0.1:{port}", "--password-port", password_port]

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def reset_password(self) -> int:
        """Offer a new password; returns the number of requests so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def machine() -> str:
    """A scratch tree with one account, whose keys and password may be set by whoever runs this."""
    root = tempfile.mkdtemp(prefix="csagent-bench-")
    for directory in ("etc", "root", "run", "var/lib"):
        os.makedirs(f"{root}/{directory}")
    with open(f"{root}/etc/passwd", "w") as stream:
        stream.write(f"root:x:{os.getuid()}:{os.getgid()}:root:/root:/bin/sh\n")
    with open(f"{root}/etc/shadow", "w") as stream:
        stream.write("root:*:20000::::::\n")
    return root


def timed(command: List[str]) -> float:
    """Seconds that a whole process takes; it must succeed."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    router, far = Router(), Router(60, 0.05)
    root = machine()

    def agent(*words: str) -> Callable[[], float]:
        return lambda: timed([*CSAGENT, "--root", root, *words])

    def first_boot() -> float:
        nonlocal root
        shutil.rmtree(root)
        root = machine()
        router.reset_password()
        return agent("apply", *router.places)()

    def reset() -> float:
        router.reset_password()
        return agent("apply", *router.places)()

    kinds: Dict[str, Callable[[], float]] = {
        "python3 -I -c pass": lambda: timed([sys.executable, "-I", "-c", "pass"]),
        "python3 -I -c 'import requests'": lambda: timed([sys.executable, "-I", "-c", "import requests"]),
        "apply, first boot": first_boot,
        "apply, nothing changed": lambda: agent("apply", *router.places)(),
        "apply, password reset": reset,
        "fetch": lambda: agent("fetch", *router.places)(),
        "fetch, 60 more keys, 50 ms latency": lambda: agent("fetch", *far.places)(),
        "status": lambda: agent("status")(),
        "query hostname": lambda: agent("query", "hostname")(),
        "discover": lambda: agent("discover")(),
    }
    times: Dict[str, List[float]] = {kind: [] for kind in kinds}
    try:
        for number in range(runs + 1):
            for kind, run in kinds.items():
                taken = run()
                if number:  # the first round warms up
                    times[kind].append(taken)
        before = router.reset_password()
        agent("apply", *router.places)()
        requests = router.reset_password() - before
    finally:
        router.close()
        far.close()
        shutil.rmtree(root)
    bare, library = (statistics.median(times[kind]) for kind in list(kinds)[:2])
    print(f"{'':36} {'ms':>7} {'x pass':>7} {'x requests':>11}   ({runs} runs, medians)")
    for kind, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{kind:36} {median * 1000:7.1f} {median / bare:7.2f} {median / library:11.2f}")
    print(f"requests of a whole apply with a password, acknowledgement included: {requests}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
