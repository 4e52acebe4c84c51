"""The program of csagent-cloud-init-compat: what it prints, what it waits for, which files it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest
import yaml

from csagent.cli import cloud_init_compat
from csagent.cli.cloud_init_compat import main
from csagent.state import user_data_mark
from csagent.system.seams import Clock, Completed, Runner, System

PACKAGING = Path(__file__).resolve().parents[3] / "packaging/cloud-init-compat"


class Systemd(Runner):
    """`daemon` and `final` are what it says of csagent.service and csagent-user-data.service.

    `daemon` is "" where there is no systemd.
    """

    daemon = "active enabled"
    final = "inactive static"

    def run(self, argv: Sequence[str], **_more: Any) -> Completed:
        if not self.daemon:
            return Completed(None, b"", b"not installed")
        blocks = []
        for name, said in (("csagent", self.daemon), ("csagent-user-data", self.final)):
            active, _, file = said.partition(" ")
            blocks.append(f"Id={name}.service\nActiveState={active}\nUnitFileState={file}\n")
        return Completed(0, "\n".join(blocks).encode(), b"")


class Stepping(Clock):
    """Each sleep is the next of these steps; there is no other than those, and time passes in them alone."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.steps = list(steps)
        self.passed = 1000.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        self.steps.pop(0)()


def put(tree: Path, name: str, document: Dict[str, Any]) -> None:
    (tree / "run/csagent").mkdir(exist_ok=True)
    (tree / "run/csagent" / name).write_text(json.dumps(document))


def passed(tree: Path) -> None:
    places = [{"place": "router 10.1.1.1", "outcome": "ok"}]
    put(tree, "status.json", {"source_found": True, "started": 1.0, "finished": 2.0, "places": places})


def ran(tree: Path, outcome: str = "done", final: str = "ended") -> None:
    parts = [{"name": "part-001", "kind": "script", "outcome": outcome, "exit": 3}]
    stages = {"early": "ended", "final": final}
    put(tree, "user-data.json", {"sha256": "a", "state": outcome, "parts": parts, "stages": stages})


def machine(
    system: System,
    *steps: Callable[[], Any],
    daemon: str = "active enabled",
    final: str = "inactive static",
) -> System:
    """The tree with a systemd, and what happens while it is waited for."""
    runner = Systemd()
    runner.daemon, runner.final = daemon, final
    return system._replace(runner=runner, clock=Stepping(*steps))


def test_wait_ends_with_the_final_stage(
    system: System, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the pass and both stages; a dot each time, then what cloud-init prints with --long."""
    steps = (
        lambda: user_data_mark.leave(system, "a"),
        lambda: passed(tree),
        lambda: ran(tree, "running", "waiting"),
        lambda: ran(tree),
    )
    waiting = machine(system, *steps)
    assert main(["status", "--wait", "--long"], waiting) == 0
    assert isinstance(waiting.clock, Stepping) and waiting.clock.steps == []
    lines = capsys.readouterr().out.split("\n")
    assert lines[:4] == [
        "....",
        "status: done",
        "extended_status: done",
        "boot_status_code: enabled-by-generator",
    ]
    assert lines[4].startswith("last_update: ")
    assert lines[5:] == ["detail: DataSourceCloudStack", "errors: []", "recoverable_errors: {}", ""]


@pytest.mark.parametrize("name", ["status.json", "user-data.json", "user-data-ready"])
@pytest.mark.parametrize("words", [["status", "--wait"], ["leave-files"]])
def test_what_is_damaged_is_waited_for(
    words: List[str], name: str, system: System, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written anew; where nothing is to come that does that, it is told."""
    user_data_mark.leave(system, "a")
    passed(tree)
    ran(tree)
    damaged = tree / "run/csagent" / name
    whole = damaged.read_text()
    damaged.write_text('{"sch')
    waiting = machine(system, lambda: None, lambda: damaged.write_text(whole))
    assert main(words, waiting) == 0
    assert isinstance(waiting.clock, Stepping) and waiting.clock.steps == []
    assert capsys.readouterr().out in ("", "..\nstatus: done\n")
    damaged.write_text('{"sch')
    gone = machine(system, daemon="inactive disabled", final="active static")
    assert main(words, gone) == 1
    assert capsys.readouterr().err.startswith(f"csagent: /run/csagent/{name} is damaged; ")


@pytest.mark.parametrize("name", ["status.json", "user-data.json", "user-data-ready"])
@pytest.mark.parametrize("words", [["status", "--wait"], ["leave-files"]])
def test_what_stays_damaged_is_waited_for_a_minute(
    words: List[str], name: str, system: System, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted anew where it was whole meanwhile; not at all where there is no systemd to ask."""
    user_data_mark.leave(system, "a")
    passed(tree)
    ran(tree, final="waiting")
    damaged = tree / "run/csagent" / name
    whole = damaged.read_text()
    damaged.write_text('{"sch')
    once = [lambda: damaged.write_text(whole), lambda: damaged.write_text('{"sch')]
    steps: List[Callable[[], Any]] = [*[lambda: None] * 58, *once, *[lambda: None] * 60]
    said = f"csagent: /run/csagent/{name} is damaged; "
    waiting = machine(system, *steps)
    assert main(words, waiting) == 1
    assert isinstance(waiting.clock, Stepping) and waiting.clock.steps == []
    assert capsys.readouterr().err.startswith(said)
    assert main(words, machine(system, daemon="")) == 1
    assert capsys.readouterr().err.startswith(said)


def test_wait_does_not_wait_for_what_does_not_come(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """csagent is disabled, or its unit has failed."""
    assert main(["status", "--wait"], machine(system, daemon="inactive disabled")) == 0
    assert capsys.readouterr().out == "\nstatus: disabled\n"
    assert main(["status", "--wait"], machine(system, daemon="failed enabled")) == 1
    assert capsys.readouterr().out == "\nstatus: error\n"


def test_errors_and_what_is_degraded_are_listed(
    system: System, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit codes 1 and 2; without --long one line."""
    passed(tree)
    ran(tree, "failed")
    assert main(["status", "--long"], machine(system)) == 1
    out = capsys.readouterr().out
    assert out.startswith("status: error\nextended_status: error - done\n")
    assert "errors:\n\t- part-001 (script): failed, exit 3\nrecoverable_errors: {}\n" in out
    ran(tree, "interrupted")
    assert main(["status"], machine(system)) == 2
    assert capsys.readouterr().out == "status: done\n"
    main(["status", "--long"], machine(system))
    assert "recoverable_errors:\nWARNING:\n\t- part-001 (script): interrupted" in capsys.readouterr().out


def test_json_and_yaml_say_the_same(system: System, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No dots among them, also with --wait."""
    found = []
    for name, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        (tree / "run/csagent/status.json").unlink(missing_ok=True) if found else None
        assert main(["status", "--wait", "--format", name], machine(system, lambda: passed(tree))) == 0
        found.append(load(capsys.readouterr().out))
    assert found[0] == found[1]
    assert (found[0]["status"], found[0]["extended_status"]) == ("done", "done")
    assert (found[0]["errors"], found[0]["recoverable_errors"]) == ([], {})
    assert found[0]["modules-final"]["finished"] == 2.0


def test_files_come_when_all_is_over(system: System, tree: Path) -> None:
    """Until then status.json says what it is at; those of an earlier boot are gone at once."""
    old = tree / "var/lib/cloud/instance/boot-finished"
    old.parent.mkdir(parents=True)
    old.write_text("of the last boot\n")
    run = tree / "run/cloud-init"
    (tree / "proc").mkdir()
    (tree / "proc/uptime").write_text("12.34 20.00\n")
    seen = []

    def look() -> None:
        told = json.loads((run / "status.json").read_text())["v1"]
        seen.append((told["stage"], old.exists(), (run / "result.json").exists()))
        passed(tree)

    assert main(["leave-files"], machine(system, look)) == 0
    assert seen == [("init", False, False)]
    assert json.loads((run / "result.json").read_text())["v1"] == {
        "datasource": "DataSourceCloudStack",
        "errors": [],
    }
    assert json.loads((run / "status.json").read_text())["v1"]["stage"] is None
    assert old.read_text().startswith("12.34 - ") and " - v. csagent " in old.read_text()
    assert {path.stat().st_mode & 0o7777 for path in (old, *run.iterdir())} == {0o644}


def test_files_come_without_user_data_and_without_a_source(system: System, tree: Path) -> None:
    """Directories are made; nothing is waited for."""
    put(tree, "status.json", {"source_found": False, "started": 1.0, "finished": 31.0, "places": []})
    assert main(["leave-files"], machine(system)) == 0
    assert (tree / "var/lib/cloud/instance/boot-finished").exists()
    told = json.loads((tree / "run/cloud-init/result.json").read_text())
    assert told["v1"]["datasource"] == "DataSourceNone"


def test_no_files_where_csagent_is_disabled(system: System, tree: Path) -> None:
    """Nothing has finished."""
    assert main(["leave-files"], machine(system, daemon="inactive disabled")) == 0
    assert list((tree / "run/cloud-init").iterdir()) == []
    assert not (tree / "var/lib/cloud").exists()


def test_what_goes_wrong_is_one_line(system: System, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Something in the way, a damaged file, another command of cloud-init's."""
    passed(tree)
    (tree / "run/cloud-init").write_text("")
    assert main(["leave-files"], machine(system)) == 1
    assert capsys.readouterr().err.count("\n") == 1
    (tree / "run/csagent/status.json").write_text("{")
    assert main(["status"], machine(system)) == 1
    assert "status.json is damaged" in capsys.readouterr().err
    assert main(["clean"], machine(system)) == 2
    assert "invalid choice: 'clean'" in capsys.readouterr().err


def test_the_packaged_program_is_this_one_and_known_as_ours() -> None:
    """csagent tells it from cloud-init by the module that it imports."""
    from csagent.other_agents.cloud_init import OUR_PROGRAM, PROGRAM_LIMIT

    script = (PACKAGING / "cloud-init").read_text()
    assert cloud_init_compat.__name__ == OUR_PROGRAM
    assert f"from {OUR_PROGRAM} import entry\n" in script[: PROGRAM_LIMIT // 2]
