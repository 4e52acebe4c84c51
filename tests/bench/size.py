"""What size and distance cost: more keys, more user-data, and a router that is 100 ms away."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict, List

from measure import CSAGENT, PYTHON, Cost, median, run
from world import Machine, Router

KEYS = (10, 100, 1000)
METADATA = (10, 100, 980)  # of an operator's own, beside CloudStack's; 1,000 in all are read
USER_DATA = (1 << 10, 1 << 15, 1 << 20)
ROUND_TRIPS = (0.0, 0.05, 0.1)  # seconds
LATENCY_TARGET = 0.7  # seconds for a whole pass at the last of them


def size(runs: int) -> Dict[str, Any]:
    """Seconds of a first pass, by number of keys, by bytes of user-data, and by round trip."""
    by_keys = {number: _first_pass(Router(keys=number), runs) for number in KEYS}
    by_metadata = {number: _first_pass(Router(metadata=number), runs) for number in METADATA}
    by_bytes = {number: _first_pass(Router(user_data=number), runs) for number in USER_DATA}
    by_distance = {seconds: _first_pass(Router(), runs, seconds) for seconds in ROUND_TRIPS}
    slope = (by_distance[ROUND_TRIPS[-1]].wall - by_distance[ROUND_TRIPS[0]].wall) / ROUND_TRIPS[-1]
    return {
        "keys_ms": {str(number): round(cost.wall * 1000, 1) for number, cost in by_keys.items()},
        "metadata_ms": {str(number): round(cost.wall * 1000, 1) for number, cost in by_metadata.items()},
        "user_data_ms": {str(number): round(cost.wall * 1000, 1) for number, cost in by_bytes.items()},
        "round_trip_ms": {str(one): round(cost.wall * 1000, 1) for one, cost in by_distance.items()},
        "round_trips_in_a_row": round(slope, 1),
    }


def _first_pass(router: Router, runs: int, round_trip: float = 0.0) -> Cost:
    """The median of a first pass without a password to hash, which takes as long whatever the size."""
    machine, places = Machine(), router.places
    here = os.path.dirname(os.path.abspath(__file__))
    ports = [str(router.port), str(router.password_port)]
    line = subprocess.Popen(
        [PYTHON, os.path.join(here, "far.py"), str(round_trip), *ports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert line.stdin is not None and line.stdout is not None
    near = line.stdout.readline().split()
    if round_trip:
        places = ["--router", f"127.0.0.1:{near[0]}", "--password-port", near[1]]
    costs: List[Cost] = []
    try:
        run([*CSAGENT, "--root", machine.root, "apply", *places])
        for _ in range(runs):
            machine.renew()
            costs.append(run([*CSAGENT, "--root", machine.root, "apply", *places]))
    finally:
        line.stdin.close()
        line.wait()
        line.stdout.close()
        router.close()
        machine.close()
    return median(costs)


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of text."""
    return [
        "first pass, ms, by SSH keys: " + _series(result["keys_ms"]),
        "first pass, ms, by further metadata keys: " + _series(result["metadata_ms"]),
        "first pass, ms, by bytes of user-data: " + _series(result["user_data_ms"]),
        "first pass, ms, by seconds of a round trip: " + _series(result["round_trip_ms"]),
        f"round trips in a row: {result['round_trips_in_a_row']}; the last is to be below {LATENCY_TARGET} s",
    ]


def _series(values: Dict[str, float]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
