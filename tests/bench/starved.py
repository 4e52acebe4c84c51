"""From the daemon's start to keys and password, where it gets little of a processor."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support.running_daemon import CLOUD, Running  # noqa: E402
from support.samples import make_tree  # noqa: E402
from support.starved_daemon import Arrival, arrival  # noqa: E402

from csagent.lab.router import LabRouter  # noqa: E402

SHARES = (0.02, 0.004)  # `./dev starve` has a thousandth, too, which takes six minutes


def starved() -> Dict[str, Any]:
    """By share of one processor: seconds until all is applied, and of processor time that this takes."""
    shares = {}
    for one in map(_arrival, SHARES):
        row = {"needed_s": round(one.needed, 2), "took_s": round(one.took, 1), "times": round(one.times, 2)}
        shares[f"{one.share}"] = row
    return {"shares": shares}


def _arrival(share: float) -> Arrival:
    with contextlib.ExitStack() as stack:
        tree = make_tree(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csagent-bench-"))))

        def start() -> Running:
            router = LabRouter(CLOUD)
            router.start()
            stack.callback(router.stop)
            places = ["--router", f"127.0.0.1:{router.port}", "--password-port", f"{router.password_port}"]
            daemon = Running(tree, ["daemon", *places], "")
            stack.callback(daemon.close)
            return daemon

        return arrival(start, tree, share)


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of Markdown."""
    lines = ["| share of one processor | its CPU, s | start to keys and password, s | over CPU by share |"]
    lines.append("|---|--:|--:|--:|")
    for share, row in result["shares"].items():
        cells = [f"1/{round(1 / float(share))}", *map(str, row.values())]
        lines.append(f"| {' | '.join(cells)} |")
    note = "A first pass of the daemon, with a router; in the last column at most 3 is promised."
    return [*lines, "", note, ""]
