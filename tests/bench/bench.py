"""`./dev bench`: what csagent costs, in one run, ratios first.

    bench.py [RUNS] [--boots N] [--only PART] [--json FILE] [--chart FILE]

Figures that are compared come from the same run, taken in turn: the machine may be busy, but is so for all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict

import host
import size
import starved

PARTS = ("host", "size", "starved", "vm", "user-data", "installs")
VM_RUNS = 3  # of each agent: its clock counts instructions, so that they differ by little; 15 take 45 minutes


def main() -> int:
    """Measure, print the tables, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="?", type=int, default=15, help="paired runs behind each median (15)")
    parser.add_argument(
        "--boots", type=int, default=VM_RUNS, help=f"boots of each agent in the VM ({VM_RUNS})"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--chart", metavar="FILE", help="draw the comparisons with others there, as SVG")
    given = parser.parse_args()
    parts = given.only or (PARTS if os.geteuid() == 0 else PARTS[:3])  # an image takes root
    result: Dict[str, Any] = {}
    if "host" in parts:
        result["host"] = host.host(given.runs)
        print("\n".join(host.table(result["host"])), flush=True)
    if "size" in parts:
        result["size"] = size.size(given.runs)
        print("\n".join(size.table(result["size"])), flush=True)
    if "starved" in parts:
        result["starved"] = starved.starved()
        print("\n".join(starved.table(result["starved"])), flush=True)
    if "vm" in parts:
        import vm

        result["vm"] = vm.vm(given.boots)
        print("\n".join(vm.table(result["vm"])), flush=True)
    if "user-data" in parts:
        import user_data

        result["user_data"] = user_data.user_data(max(1, given.runs // 3))
        print("\n".join(user_data.table(result["user_data"])), flush=True)
    if "installs" in parts:
        import installs

        result["installs"] = installs.installs()
        print("\n".join(installs.table(result["installs"])), flush=True)
    if given.chart:
        import chart

        chart.draw(result, given.chart)
    if given.json:
        with open(given.json, "w") as stream:
            json.dump(result, stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
