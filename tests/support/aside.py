"""Tests that wait for something most of their time run beside all others, in processes of their own.

Those marked `vm` wait for emulated processors for minutes, and judge by the guests' clocks. Those of
CONTAINERS wait for the managers of networks and units, and those of SYSTEM for leases, routers that do not
answer, and packages. Where they were selected together with other tests,
they come last, and what is shown of them is what those processes have reported. Selected alone they run as
any test does.

Each process is a session of its own, and so has as much of the processors as any other session where
sched_autogroup_enabled says so (sched(7)): at a lower priority emulated machines would not come to their end
beside somebody else's work.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Dict, List, Optional

import pytest

REPORTS = "CSAGENT_TEST_REPORTS"  # set in such a process: the file that it reports to
# Which files share a process. All others marked `vm` share one more, and so do those of tests/system.
# All take about as long.
CONTAINERS, SYSTEM = "containers", "system"
LANES = {
    "test_releases.py": "templates",
    "test_image_recipe.py": "templates",
    "test_network_apply.py": CONTAINERS,
    "test_user_data_boots.py": CONTAINERS,
    "test_user_data_documents.py": CONTAINERS,
    "test_user_data_network.py": CONTAINERS,
    "test_user_data_units.py": CONTAINERS,
}
HANGS = 2700  # seconds after which a test of a machine has not been slow, but hangs
SILENCE = HANGS + 60.0  # seconds without a report after which a process is given up
END = 4800.0  # seconds from their start after which all of them are: CI gives no more, and shows nothing then
PAUSE = 0.2


class Reporting:
    """In a process aside: write down every report."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._stream: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def pytest_collection_modifyitems(self, items: List[pytest.Item]) -> None:
        _limit([item for item in items if _is_vm(item)], HANGS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._stream.write(json.dumps(data) + "\n")
        self._stream.flush()


class Lane:
    """A process aside, and what it has reported so far."""

    def __init__(self, config: pytest.Config, directory: Path, items: List[pytest.Item]) -> None:
        self._file = directory / "reports"
        self._output = directory / "output"
        self._end = time.monotonic() + END
        self._read = 0
        self._found: Dict[str, List[Any]] = {}
        command = ["setpriv", "--pdeathsig", "KILL"]
        command += [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        with open(self._output, "wb") as stream:
            self.process = subprocess.Popen(
                [*command, *(item.nodeid for item in items)],
                cwd=config.rootpath,
                env={**os.environ, REPORTS: str(self._file)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def reports(self, nodeid: str) -> Optional[List[Any]]:
        """All reports on a test, once its last one is there; None if the process has ended without."""
        heard = time.monotonic()
        while True:
            ended = self.process.poll() is not None
            if self._take():
                heard = time.monotonic()
            found = self._found.get(nodeid, [])
            if found and found[-1]["when"] == "teardown":
                return found
            if ended or time.monotonic() > min(heard + SILENCE, self._end):
                return None
            time.sleep(PAUSE)

    def _take(self) -> bool:
        """Read what is new; whether there was anything."""
        try:
            with open(self._file, encoding="utf-8") as stream:
                stream.seek(self._read)
                lines = stream.readlines()
        except FileNotFoundError:
            return False
        whole = [line for line in lines if line.endswith("\n")]
        self._read += sum(len(line.encode()) for line in whole)
        for line in whole:
            data = json.loads(line)
            self._found.setdefault(data["nodeid"], []).append(data)
        return bool(whole)

    def output(self) -> str:
        """The end of what it printed."""
        return self._output.read_text("utf-8", "replace")[-6000:]

    def end(self) -> None:
        """End it, and with it what it has started."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(600)


class Aside:
    """In the process that the developer has started."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lanes: Dict[str, Lane] = {}
        self._of: Dict[str, Lane] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: List[pytest.Item]) -> None:
        aside = [item for item in items if _lane(item)]
        others = [item for item in items if not _lane(item)]
        if aside and others:
            items[:] = others + aside
            _limit(aside, 0)  # here one waits for reports, and there is a limit already
        else:
            _limit([item for item in aside if _is_vm(item)], HANGS)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        aside = [item for item in session.items if _lane(item)]
        options = self._config.option
        if not aside or len(aside) == len(session.items) or options.collectonly or options.usepdb:
            return
        lanes: Dict[str, List[pytest.Item]] = {}
        for item in aside:
            lanes.setdefault(_lane(item), []).append(item)
        factory: pytest.TempPathFactory = self._config._tmp_path_factory  # type: ignore[attr-defined]
        for name, items in lanes.items():
            lane = self._lanes[name] = Lane(self._config, factory.mktemp(f"aside-{name}"), items)
            self._of.update({item.nodeid: lane for item in items})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Optional[bool]:
        lane = self._of.get(item.nodeid)
        if lane is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = lane.reports(item.nodeid)
        for data in reports or ():
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
            if isinstance(report.longrepr, list):  # where and why it was skipped: JSON knows no tuples
                report.longrepr = tuple(report.longrepr)
            item.ihook.pytest_runtest_logreport(report=report)
        if reports is None:
            lane.end()
            report = pytest.TestReport(
                item.nodeid,
                item.location,
                {name: 1 for name in item.keywords},
                "failed",
                f"the process aside did not come to this test:\n{lane.output()}",
                "call",
            )
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        for lane in self._lanes.values():
            lane.end()


def _is_vm(item: pytest.Item) -> bool:
    return item.get_closest_marker("vm") is not None


def _lane(item: pytest.Item) -> str:
    """Which process a test runs in; empty: this one."""
    rest = SYSTEM if item.path.parent.name == SYSTEM else ""
    return LANES.get(item.path.name, "machines" if _is_vm(item) else rest)


def _limit(items: List[pytest.Item], seconds: int) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(seconds))


def configure(config: pytest.Config) -> None:
    """Register what this process needs."""
    path = os.environ.get(REPORTS)
    config.pluginmanager.register(Reporting(config, path) if path else Aside(config), "csagent-aside")
