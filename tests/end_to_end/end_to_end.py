"""Whole machines with csagent beside the same ones with cloud-init: `./dev end-to-end`.

Debian images made by the recipe, booted in QEMU from the lab's router and from its drive, two boots each.
The same look is taken at both, and what differs is in expected_differences.yaml with its reason, or a
failure. What has been seen of a machine is kept: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

import comparison  # noqa: E402
import images  # noqa: E402
import machine  # noqa: E402
from cases import CASES, Case  # noqa: E402
from comparison import Difference, Where  # noqa: E402
from facts import Facts, facts, seconds  # noqa: E402
from images import AGENTS, CLOUD_INIT, CSAGENT, SUITES  # noqa: E402
from machine import Failed, Report  # noqa: E402
from support.build_cache import cache_directory  # noqa: E402
from support.debian_image import build_package  # noqa: E402

from csagent.lab.cloud import Cloud  # noqa: E402

DEADLINE = 1200.0  # seconds of a boot
MOMENTS = ("ssh.service", "multi-user.target", "done")


class Run(NamedTuple):
    """A machine that is booted."""

    release: int
    agent: str
    case: Case
    source: str

    @property
    def cloud(self) -> Cloud:
        """What CloudStack knows of it."""
        return self.case.cloud(self.release, self.agent, self.source)

    def __str__(self) -> str:
        return f"Debian {self.release}, {self.agent}, case {self.case.name}, {self.source}"


def reports(run: Run, template: Path, deadline: float, *, again: bool) -> Optional[List[Report]]:
    """Of each boot; None, and a line about it, where one gave none."""
    kept = _kept(run, template)
    if kept.exists() and not again:
        print(f"{run}: seen before", flush=True)
        return [Report(*entry) for entry in json.loads(kept.read_text())]
    found: List[Report] = []
    try:
        for report in machine.boots(template, run.case, run.cloud, run.source, deadline):
            found.append(report)
            print(f"{run}, boot {len(found)}: {report.seconds:.0f} s", flush=True)
    except Failed as error:
        print(f"{run}: {error}", flush=True)
        return None
    kept.write_text(json.dumps(found))
    return found


def _kept(run: Run, template: Path) -> Path:
    """Where its reports are kept: by what the image, the case and the machine are made of."""
    parts = [template.parent.name, repr(run.cloud), run.source, repr(run.case[6:]), repr(run.case.network)]
    digest = hashlib.sha256("\0".join(parts).encode())
    digest.update(run.case.user_data + (HERE / "machine.py").read_bytes())
    folder = cache_directory() / "end-to-end"
    folder.mkdir(exist_ok=True)
    return folder / f"{run.release}-{run.agent}-{run.case.name}-{run.source}-{digest.hexdigest()[:16]}.json"


def chosen(arguments: argparse.Namespace) -> List[Tuple[int, Case, str]]:
    """What is to be compared."""
    return [
        (release, case, source)
        for release in arguments.release or SUITES
        for case in CASES
        if not arguments.case or any(case.name == name or case.name[0] == name for name in arguments.case)
        for source in case.sources
        if arguments.source in (None, source)
    ]


class Results:
    """What all comparisons of a run come to."""

    def __init__(self, *, verbose: bool) -> None:
        self.table = comparison.rows()
        self.failures = 0
        self.used: Set[Difference] = set()
        self.times: List[str] = []
        self._verbose = verbose

    def add(self, place: Tuple[int, Case, str], seen: Dict[str, Optional[List[Report]]]) -> None:
        """Judge the boots of the two machines of a case, or of the one that was asked for."""
        release, case, source = place
        self.failures += sum(1 for found in seen.values() if found is None)
        for index in range(machine.BOOTS):
            boot = Where(release, case.name, source, index + 1)
            found: Dict[str, Facts] = {}
            for agent, given in seen.items():
                if given is not None:
                    found[agent] = facts(
                        given[index], Run(release, agent, case, source).cloud.instance_id, given[:index]
                    )
                    times = seconds(given[index])
                    row = " | ".join(str(times.get(name, "")) for name in MOMENTS)
                    self.times.append(f"| {boot} | {agent} | {row} |")
            wrong = comparison.unmet(index + 1, case.expected, found[CSAGENT]) if CSAGENT in found else []
            told = f"{boot}: as expected"
            if len(found) == len(AGENTS):
                compared = comparison.compare(boot, found[CSAGENT], found[CLOUD_INIT], self.table)
                wrong += compared.wrong
                self.used.update(difference for _, difference, _ in compared.meant)
                told = f"{boot}: {len(compared.meant)} differences, all in the table"
                if self._verbose:
                    told += "".join(f"\n    {row.what}: {line}" for row, _, line in compared.meant)
            if found:
                self.failures += bool(wrong)
                print("\n    ".join([f"{boot}: differs", *wrong]) if wrong else told, flush=True)

    def whole(self) -> None:
        """After a run of everything: nothing is in the table that was not seen."""
        unused = comparison.unused(self.table, self.used)
        self.failures += len(unused)
        print("\n".join(unused or ["each row of the table was seen, with all that it is about"]))

    def page(self, *, write: bool) -> None:
        """The table in the documentation is this one."""
        text = comparison.PAGE.read_text("utf-8")
        wanted = comparison.page_with(text, self.table)
        if text != wanted and write:
            comparison.PAGE.write_text(wanted, "utf-8")
        elif text != wanted:
            self.failures += 1
            print(f"{comparison.PAGE.name}: its table is another one; --write-docs writes it")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev end-to-end", description=__doc__.split("\n")[0])
    names = sorted({case.name[0] for case in CASES} | {case.name for case in CASES})
    parser.add_argument("--release", type=int, action="append", choices=SUITES, help="only this Debian")
    parser.add_argument("--case", action="append", choices=names, help="only this case")
    parser.add_argument("--source", choices=("router", "drive"), help="only from this source")
    parser.add_argument(
        "--agent", choices=AGENTS, help="only machines with this one; nothing is compared then"
    )
    parser.add_argument(
        "--package", type=Path, metavar="DEB", help="csagent's package (default: this checkout's)"
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE,
        metavar="SECONDS",
        help="of a boot (default %(default).0f)",
    )
    parser.add_argument("--again", action="store_true", help="boot what has been seen before, too")
    parser.add_argument("--facts", action="store_true", help="print all facts of each boot as JSON")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the table into docs/from-cloud-init.md"
    )
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="show the differences that are meant, too"
    )
    arguments = parser.parse_args()
    # As an interrupt: what was begun is removed, and the machine switched off.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    results = Results(verbose=arguments.verbose)
    results.page(write=arguments.write_docs)
    agents = (arguments.agent,) if arguments.agent else AGENTS
    with tempfile.TemporaryDirectory(prefix="csagent-e2e-") as scratch:
        deb = arguments.package or build_package(Path(scratch))
        for release, case, source in chosen(arguments):
            seen: Dict[str, Optional[List[Report]]] = {}
            for agent in agents:
                template = images.image(release, agent, deb)
                run = Run(release, agent, case, source)
                seen[agent] = reports(run, template, arguments.deadline, again=arguments.again)
                if arguments.facts:
                    _print_facts(run, seen[agent])
            results.add((release, case, source), seen)
    if not (arguments.release or arguments.case or arguments.source or arguments.agent):
        results.whole()
    if results.times:
        print("\n".join(["", "| seconds since the kernel started | agent | sshd | multi-user | done |"]))
        print("\n".join(["|---|---|--:|--:|--:|", *results.times]))
    print(f"\n{len(results.times)} boots, {results.failures} failures ({time.monotonic() - began:.0f} s)")
    return 1 if results.failures else 0


def _print_facts(run: Run, found: Optional[List[Report]]) -> None:
    for index, report in enumerate(found or ()):
        told: Dict[str, Any] = {
            "run": str(run),
            "boot": index + 1,
            "facts": facts(report, run.cloud.instance_id, (found or [])[:index]),
        }
        print(json.dumps(told, indent=1))


if __name__ == "__main__":
    sys.exit(main())
