"""Run csagent's command line and say what it cost, its children included.

What it costs is processor time: how long it takes by the clock says how busy the machine is.

`ru_maxrss` survives fork and exec: a process that pytest starts itself would begin with pytest's own
peak. So the command is started by a small interpreter, and wait4(2) there gives the largest resident set
of the command and of every descendant that it has waited for. CSAGENT_MEASURED names a file that gets the
figures of every run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
PEAK_LIMIT = 64 << 20  # bytes resident, for each process

_LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
status, usage = os.wait4(pid, 0)[1:]
with open(sys.argv[1], "w") as stream:
    code = os.WEXITSTATUS(status) or -os.WTERMSIG(status)
    stream.write("%d %d %f" % (code, usage.ru_maxrss, usage.ru_utime + usage.ru_stime))
"""


class Measured(NamedTuple):
    """How a command ended. `peak` is in bytes, of its largest process; `seconds` are the clock's.

    `processor` is in seconds, of all its processes that had ended and were waited for.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak: int
    processor: float

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def csagent(root: Path, *words: str, timeout: float = 600.0, program: str = "") -> Measured:
    """Run `csagent --root ROOT WORDS`; after `timeout` seconds it is killed with all that it started.

    `program` is Python to run before it, in the same process.
    """
    with tempfile.NamedTemporaryFile(mode="r") as cost:
        command: List[str] = [sys.executable, "-I", "-S", "-c", _LAUNCHER, cost.name]
        source = f"{program}\nfrom csagent.cli.main import entry\nentry()"
        command += [sys.executable, *(["-c", source] if program else ["-m", "csagent"])]
        command += ["--root", str(root), *words]
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            cwd=REPOSITORY,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=300)
            raise AssertionError(f"csagent {' '.join(words)} did not end in {timeout:g} s: {err}") from None
        seconds = time.monotonic() - began
        code, peak, processor = cost.read().split()
    assert "Traceback" not in err, err
    if "CSAGENT_MEASURED" in os.environ:
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        with open(os.environ["CSAGENT_MEASURED"], "a") as figures:
            figures.write(f"{processor} s\t{int(peak) / 1024:.1f} MiB\t{test}\t{' '.join(words)}\n")
    return Measured(int(code), out, err, seconds, int(peak) * 1024, float(processor))
