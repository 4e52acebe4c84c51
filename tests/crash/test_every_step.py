"""Killed at any step, or cut off from power, the next pass ends where an undisturbed one would have.

A sample of the steps by default; all of them with CSAGENT_ALL_STEPS=1 (`./dev crash`), where
CSAGENT_CRASH_LOG names a file for the figures. CSAGENT_CRASH_SEED chooses another sample.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List

import pytest
from harness import MODES, SCENARIOS, Bench, Scenario, Step, Trace, attempt, important, steps_for

ALL_STEPS = os.environ.get("CSAGENT_ALL_STEPS") == "1"
SEED = int(os.environ.get("CSAGENT_CRASH_SEED", "20"))
SAMPLE = {"process": 3, "parent": 2, "power": 1, "kill-then-power": 1}  # besides the important ones
IMPORTANT = {"process": 1.0, "parent": 0.5, "power": 0.25, "kill-then-power": 0.25}  # the share of them
AT_ONCE = 2 * (os.cpu_count() or 1)  # an attempt waits as long as it computes

Dry = Callable[[Scenario], Trace]
by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def chosen(scenario: Scenario, mode: str, steps: List[Step]) -> List[Step]:
    """The steps to try, in their order."""
    able = steps_for(mode, steps)
    if ALL_STEPS:
        return able
    dice = random.Random(f"{SEED} {scenario.name} {mode}")
    first = [step for step in important(steps) if step in able]
    first = dice.sample(first, round(len(first) * IMPORTANT[mode]))
    rest = [step for step in able if step not in first]
    take = {*first, *dice.sample(rest, min(SAMPLE[mode], len(rest)))}
    return [step for step in able if step in take]


@by_scenario
@pytest.mark.parametrize("mode", MODES)
def test_stopped_at_a_step(bench: Bench, dry_run: Dry, scenario: Scenario, mode: str) -> None:
    """Right password, acknowledged only once it was safe; host name and keys converge; nothing is left."""
    steps = chosen(scenario, mode, dry_run(scenario).steps)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda step: attempt(bench, scenario, step, mode), steps))
    reached = sum(result.reached for result in results)
    bad = [str(result) for result in results if result.problems]
    if "CSAGENT_CRASH_LOG" in os.environ:
        with open(os.environ["CSAGENT_CRASH_LOG"], "a") as log:
            print(f"{scenario.name} {mode}: {len(steps)} steps, {reached} reached, {len(bad)} bad", file=log)
            print(*(f"    {line}" for line in bad), sep="\n", file=log)
    assert not bad, f"{len(bad)} of {len(steps)}:\n" + "\n".join(bad)
    # The reader's threads take turns as they like; a step near its end may be one fewer this time.
    few = max(1, len(steps) // 10)
    assert steps and reached >= len(steps) - few, f"only {reached} of {len(steps)} steps were reached"


@by_scenario
def test_order_of_durability(dry_run: Dry, scenario: Scenario) -> None:
    """A file is fsynced before it is renamed, its directory right after; so is that of a new directory."""
    steps = [step for step in dry_run(scenario).steps if "/run/csagent" not in step.what]
    renames = [step for step in steps if step.call.startswith("rename")]
    names = {os.path.basename(step.what) for step in renames}
    assert {"hostname", "hosts", "shadow", "authorized_keys"} <= names and len(names) >= 5
    for step in renames:
        mine = [other for other in steps if other.role == step.role]
        at = mine.index(step)
        directory, name = os.path.split(step.what)
        temporary = f"{directory}/.{name}.csagent-new"
        assert mine[at - 1][2:] == ("fsync", temporary), f"{step} follows {mine[at - 1]}"
        written = [index for index, other in enumerate(mine[:at]) if other.what == temporary]
        assert mine[written[-1]].call == "fsync"
        assert mine[at + 1][2:] == ("fsync", directory), f"{step} is followed by {mine[at + 1]}"
    lines = dry_run(scenario).lines
    for at, line in enumerate(lines):
        if line.get("directory") and "/run/" not in line["what"]:
            inside = os.path.basename(line["what"])
            assert any(inside in later.get("entries", ()) for later in lines[at:]), f"{line} is not durable"


@by_scenario
def test_acknowledged_last(dry_run: Dry, scenario: Scenario) -> None:
    """Shadow and memory are on the disk before `saved_password` goes out; a drive is told nothing."""
    steps = dry_run(scenario).steps
    told = [index for index, step in enumerate(steps) if step.what.endswith(" saved_password")]
    if scenario.channel == "drive":
        assert told == []
        return
    assert len(told) == 1
    before = steps[: told[0]]
    shadow = [index for index, step in enumerate(before) if step.what.endswith("/etc/shadow")]
    assert any(before[index].call.startswith("rename") for index in shadow)
    assert before[shadow[-1]].call == "fsync"  # of the file that is in place, whoever put it there
    assert before[shadow[-1] + 1].call == "fsync" and before[shadow[-1] + 1].what.endswith("/etc")
    memory = [
        index
        for index, step in enumerate(before)
        if step.call.startswith("rename") and step.what.endswith(".json") and "/instances/" in step.what
    ]
    assert memory and memory[-1] > shadow[-1], "remembered after it was set"
    assert before[memory[-1] + 1].call == "fsync" and before[memory[-1] + 1].what.endswith("/instances")
