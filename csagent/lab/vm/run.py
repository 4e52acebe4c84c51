"""One run of ``csagent lab vm``, from the copies to the report."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Type

from csagent.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from csagent.console import Console
    from csagent.lab.vm.checks import PromiseResult
    from csagent.lab.vm.scenario import Story

TIMEOUT, TIMEOUT_EMULATED = 180.0, 900.0
PATIENCE, PATIENCE_EMULATED = 45.0, 240.0
STATE_COLOURS = {"pass": "good", "fail": "bad", "warn": "note", "skip": "dim"}


class Trial:
    """One run of the command: both stories told, and what is said of them."""

    def __init__(self, args: argparse.Namespace, image_format: str) -> None:
        from csagent.console import Console

        self.args, self._format = args, image_format
        self.verdicts: List["PromiseResult"] = []
        self.console: "Console" = Console.of()
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self) -> int:
        """Boot copies, judge, report; the exit code.

        Raises:
            CsagentError: no network namespace.
        """
        from csagent.lab.vm import accelerator, namespace

        namespace.enter_own()
        emulated = accelerator.emulated()
        # Short, since the names of sockets are limited to 107 bytes.
        scratch = Path(tempfile.mkdtemp(prefix=f"csagent-vm-{os.getpid()}-", dir="/tmp"))
        stories: List["Story"] = []
        try:
            stories += self._stories(scratch, emulated)
            self._begin(stories, emulated)
            self._tell(stories)
            self._compare(stories)
        finally:
            for story in stories:
                if story.machine is not None:
                    story.machine.end()
            self._clean(scratch)
        passed = all(verdict.state != "fail" for verdict in self.verdicts)
        if self.args.json:
            print(json.dumps(self._document(stories, emulated, passed), indent=1))
        else:
            self._sum_up(emulated)
        return EXIT_OK if passed else EXIT_FAILED

    def _stories(self, scratch: Path, emulated: bool) -> List["Story"]:
        from csagent.lab.vm import user_data
        from csagent.lab.vm.machine import Template
        from csagent.lab.vm.network_story import NetworkStory
        from csagent.lab.vm.scenario import Setup
        from csagent.lab.vm.scenarios import STORIES

        args = self.args
        document = None if args.user_data is None else user_data.read(args.user_data)
        setup = Setup(
            Template(args.image, self._format, args.kernel, args.initrd, args.append, args.firmware),
            scratch,
            args.user,
            args.memory,
            args.cpu,
            args.timeout or (TIMEOUT_EMULATED if emulated else TIMEOUT),
            PATIENCE_EMULATED if emulated else PATIENCE,
            emulated,
            self._judged,
            self._say,
            document,
        )
        kinds: List[Type["Story"]] = [
            kind for kind in STORIES if document is not None or kind.name != "user-data"
        ]
        kinds += [NetworkStory] if args.network or args.only == NetworkStory.name else []
        return [kind(setup) for kind in kinds if args.only in (None, kind.name)]

    def _begin(self, stories: List["Story"], emulated: bool) -> None:
        if not self.args.json:
            names = ", ".join(story.name for story in stories)
            how = "emulated, as KVM does not work here: minutes to a login" if emulated else "KVM"
            text = f"booting copies of {self.args.image.name}: {names} ({how})"
            print("\n".join(self.console.wrap(text)), flush=True)

    def _tell(self, stories: List["Story"]) -> None:
        """Two side by side, where there is room: a boot is one busy processor, and one router can listen."""
        failures: List[BaseException] = []

        def tell(one_by_one: Sequence["Story"]) -> None:
            try:
                for story in one_by_one:
                    story.run()
            except BaseException as error:  # raised again below
                failures.append(error)

        rows = [[story for story in stories if story.listens is listens] for listens in (True, False)]
        if self.args.one_by_one or (os.cpu_count() or 1) < 2:
            rows = [stories]
        threads = [threading.Thread(target=tell, args=(row,), daemon=True) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            _wait_for(thread)
        if failures:
            raise failures[0]

    def _compare(self, stories: List["Story"]) -> None:
        from csagent.lab.vm import checks

        looks = [story.first for story in stories if story.first is not None]
        two = len(looks) == 2
        judged = checks.sealed(*looks) if two else (checks.SKIP, "needs a login in both scenarios")
        self._judged(checks.PromiseResult("both", "sealed", *judged))

    def _judged(self, verdict: "PromiseResult") -> None:
        with self._lock:
            self.verdicts.append(verdict)
            if not self.args.json:
                print("\n".join(as_lines(verdict, self.console)), flush=True)

    def _say(self, line: str) -> None:
        if self.args.verbose:
            print(f"{time.monotonic() - self._began:6.1f} {line}", file=sys.stderr, flush=True)

    def _document(self, stories: List["Story"], emulated: bool, passed: bool) -> Dict[str, Any]:
        from csagent.lab.vm.checks import PROMISES

        systems = [story.first["system"] for story in stories if story.first is not None]
        return {
            "schema": 1,
            "image": str(self.args.image),
            "system": systems[0] if systems else None,
            "accelerator": "tcg" if emulated else "kvm",
            "seconds": round(time.monotonic() - self._began, 1),
            "passed": passed,
            "promises": [
                {
                    "scenario": verdict.scenario,
                    "name": verdict.name,
                    "promise": PROMISES[verdict.name],
                    "state": verdict.state,
                    "reason": verdict.reason,
                    "seconds": None if verdict.seconds is None else round(verdict.seconds, 1),
                }
                for verdict in self.verdicts
            ],
        }

    def _sum_up(self, emulated: bool) -> None:
        count = {
            state: sum(1 for verdict in self.verdicts if verdict.state == state) for state in STATE_COLOURS
        }
        words = [f"{number} {state}" for state, number in count.items() if number]
        how = "emulated" if emulated else "KVM"
        print(
            "\n".join(
                self.console.wrap(f"{', '.join(words)} ({time.monotonic() - self._began:.0f} s, {how})")
            )
        )

    def _clean(self, scratch: Path) -> None:
        if self.args.keep is not None:
            for path in [*scratch.rglob("*")]:
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
            shutil.copytree(scratch, self.args.keep, dirs_exist_ok=True)
            self.args.keep.chmod(0o700)
        shutil.rmtree(scratch, ignore_errors=True)


def as_lines(verdict: "PromiseResult", console: "Console") -> List[str]:
    """What is printed of a verdict: one line, or on a narrow console some."""
    from csagent.lab.vm.checks import PROMISES

    took = "" if verdict.seconds is None else f" ({verdict.seconds:.0f} s)"
    lines = console.wrap(f"{PROMISES[verdict.name]}{took}", 16, f"{verdict.state:5}{verdict.scenario:10}")
    lines += console.wrap(verdict.reason, 16)
    state = console.paint(verdict.state, STATE_COLOURS[verdict.state])
    return [state + lines[0][len(verdict.state) :], *lines[1:]]


def _wait_for(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(0.5)  # a join without an end would keep signals waiting
