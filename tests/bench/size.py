"""What size and distance cost: more keys, more user-data, and a router that is 100 ms away."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict, List, Optional

from measure import CSAGENT, PYTHON, Cost, paired, run
from world import Machine, Router

KEYS = (10, 100, 1000)
METADATA = (10, 100, 980)  # of an operator's own, beside CloudStack's; 1,000 in all are read
USER_DATA = (1 << 10, 1 << 15, 1 << 20)
ROUND_TRIPS = (0.0, 0.05, 0.1)  # seconds
NOISE = 0.1  # of a time, that another run may differ by
LATENCY_TARGET = 0.7  # seconds for a whole pass at the last of them


class Pass:
    """A first pass on a machine and a router of its own, at a distance.

    It has no password to hash, which takes as long whatever the size.
    """

    def __init__(self, router: Router, round_trip: float = 0.0) -> None:
        self._machine, self._router = Machine(), router
        self._line: "Optional[subprocess.Popen[str]]" = None
        places = router.places
        if round_trip:
            here = os.path.dirname(os.path.abspath(__file__))
            ports = [str(router.port), str(router.password_port)]
            self._line = subprocess.Popen(
                [PYTHON, os.path.join(here, "far.py"), str(round_trip), *ports],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._line.stdout is not None
            near = self._line.stdout.readline().split()
            places = ["--router", f"127.0.0.1:{near[0]}", "--password-port", near[1]]
        self._command = [*CSAGENT, "--root", self._machine.root, "apply", *places]

    def run(self) -> Cost:
        """On a machine that has never seen one."""
        self._machine.renew()
        return run(self._command)

    def close(self) -> None:
        """End the router and the line to it."""
        if self._line is not None:
            assert self._line.stdin is not None and self._line.stdout is not None
            self._line.stdin.close()
            self._line.wait(300)
            self._line.stdout.close()
        self._router.close()
        self._machine.close()


def size(runs: int) -> Dict[str, Any]:
    """Milliseconds of a first pass, by number of keys, by bytes of user-data, and by round trip; in turn."""
    passes = {("keys_ms", str(number)): Pass(Router(keys=number)) for number in KEYS}
    passes.update({("metadata_ms", str(number)): Pass(Router(metadata=number)) for number in METADATA})
    passes.update({("user_data_ms", str(number)): Pass(Router(user_data=number)) for number in USER_DATA})
    passes.update({("round_trip_ms", str(one)): Pass(Router(), one) for one in ROUND_TRIPS})
    # All of it at once, near and far: the sum of the round trips must not grow with the size.
    large = {"keys": KEYS[-1], "user_data": USER_DATA[-1]}
    passes.update({("large_ms", str(one)): Pass(Router(**large), one) for one in (0.0, ROUND_TRIPS[-1])})
    names = {f"{series} {point}": (series, point) for series, point in passes}
    try:
        costs = paired({name: passes[key].run for name, key in names.items()}, runs)
    finally:
        for one in passes.values():
            one.close()
    result: Dict[str, Any] = {}
    for name, (series, point) in names.items():
        result.setdefault(series, {})[point] = round(costs[name].wall * 1000, 1)
    for name, series in (
        ("round_trips_in_a_row", "round_trip_ms"),
        ("round_trips_of_a_large_one", "large_ms"),
    ):
        near, far = (result[series][str(one)] for one in (ROUND_TRIPS[0], ROUND_TRIPS[-1]))
        result[name] = round((far - near) / 1000 / ROUND_TRIPS[-1], 1)
    result["runs"] = runs
    return result


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of text."""
    far = list(result["round_trip_ms"].values())[-1] / 1000
    return [
        f"first pass, ms, medians of {result['runs']}",
        "  by SSH keys: " + _series(result["keys_ms"]) + _growth(result["keys_ms"]),
        "  by further metadata keys: " + _series(result["metadata_ms"]) + _growth(result["metadata_ms"]),
        "  by bytes of user-data: " + _series(result["user_data_ms"]) + _growth(result["user_data_ms"]),
        "  by seconds of a round trip: " + _series(result["round_trip_ms"]),
        f"round trips in a row: {result['round_trips_in_a_row']} (at most 4); with {KEYS[-1]} keys and "
        f"{USER_DATA[-1] >> 20} MiB of user-data {result['round_trips_of_a_large_one']}",
        f"a whole pass at {ROUND_TRIPS[-1]} s: {far:.2f} s (below {LATENCY_TARGET} s)",
    ]


def _growth(values: Dict[str, float]) -> str:
    """Whether the second step costs more apiece than the first; what any pass takes cancels out."""
    (small, first), (middle, second), (large, third) = ((int(at), took) for at, took in values.items())
    before, after = (second - first) / (middle - small), (third - second) / (large - middle)
    noise = NOISE * (second / (middle - small) + third / (large - middle))
    verdict = "no more than linear" if after <= max(before, 0.0) + noise else "MORE THAN LINEAR"
    return f"; {large // small} times as much takes {third / first:.1f} times as long: {verdict}"


def _series(values: Dict[str, float]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
