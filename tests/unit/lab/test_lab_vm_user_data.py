"""What `csagent lab vm` makes of user-data that has run on a template, was left alone, or was cut short."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from csagent.errors import UsageError
from csagent.lab.vm import user_data
from csagent.lab.vm.user_data import Seen, again, interrupted, ran, seen

STEPS = [{"id": "runcmd", "often": "instance"}, {"id": "bootcmd", "often": "boot"}]


def look(state: str = "", *, runs: int = 0, begun: Any = ("runcmd", "bootcmd"), **part: Any) -> Seen:
    """What a guest has printed, understood."""
    found: Dict[str, str] = {"ran": "once\n" * runs}
    if state:
        shown = {"name": "part-001", "keys": {}, "reasons": {}, "outcome": state, **part}
        found["status"] = json.dumps({"user_data": {"state": state, "parts": [shown]}})
        found["plan"] = json.dumps({"parts": [{"steps": STEPS[:1]}], "instance": STEPS[1:]})
        lines = [json.dumps({"step": step, "state": "begun"}) for step in begun]
        found["record"] = "\n".join(
            ['{"document": "x"}', *lines, '{"step": "runcmd", "state": "done"}', "{t"]
        )
    return seen(found)


def test_it_has_run_once() -> None:
    """Done, and no step but bootcmd twice; what is wrong is told with its reason; unfinished is not run."""
    assert ran(look("done"), own=True)[0] == "pass"
    assert ran(look("done", begun=["runcmd", "bootcmd", "runcmd"]), own=True) == ("fail", "ran twice: runcmd")
    told = ran(
        look("failed", keys={"runcmd": "failed, exit 3", "users": "done"}, reasons={"runcmd": "no"}),
        own=False,
    )
    assert told == ("fail", "failed: runcmd: failed, exit 3: no")
    refused = ran(look("refused", problems=[{"severity": "error", "line": 4, "text": "no YAML"}]), own=False)
    assert refused == ("fail", "refused: line 4: no YAML")
    assert ran(look("failed", exit=2), own=False) == ("fail", "failed: part-001: exit 2")
    assert ran(look("running"), own=False)[0] == "fail"


def test_without_csagent_the_labs_script_shows_it() -> None:
    """By its own file; of another document nothing is known, and that is no failure."""
    assert ran(look(runs=1), own=True)[0] == again(look(runs=1), own=True)[0] == "pass"
    assert ran(look(runs=2), own=True)[0] == again(look(runs=2), own=True)[0] == "fail"
    assert ran(look(), own=True)[0] == ran(look(), own=False)[0] == "skip"
    assert interrupted(look(runs=1))[0] == interrupted(look())[0] == "skip"
    assert interrupted(look(runs=2)) == ("fail", "it ran again")


def test_the_second_boot_leaves_it() -> None:
    """bootcmd may begin at each boot; any other step, or the script itself, begins once."""
    assert again(look("done", begun=["runcmd", "bootcmd", "bootcmd"]), own=False)[0] == "pass"
    assert again(look("failed", begun=["runcmd", "runcmd"]), own=False) == ("fail", "ran again: runcmd")
    assert again(look("done", runs=2), own=True)[0] == "fail"


@pytest.mark.parametrize(
    ("state", "runs", "judged"), [("interrupted", 1, "pass"), ("done", 1, "fail"), ("interrupted", 2, "fail")]
)
def test_power_cut(state: str, runs: int, judged: str) -> None:
    """It is told as interrupted, and has run once."""
    assert interrupted(look(state, runs=runs))[0] == judged


def test_why_it_does_not_run_is_told() -> None:
    """The setting, or a document of another program's."""
    status = {"user_data": {"state": "ignored", "parts": [], "notes": ["the setting user_data is keep"]}}
    assert ran(seen({"status": json.dumps(status)}), own=True) == ("skip", "the setting user_data is keep")
    del status["user_data"]["notes"]
    assert ran(seen({"status": json.dumps(status)}), own=False) == ("skip", "it is not for csagent")
    assert seen({"status": "[]", "plan": "no", "record": "[1]"}) == Seen()


@pytest.mark.parametrize(("raw", "told"), [(b"", "empty"), (b"#" * (1 << 20) + b"#", "more than 1 MiB")])
def test_a_document_that_cloudstack_would_not_take(tmp_path: Path, raw: bytes, told: str) -> None:
    """Nor one that cannot be read."""
    path = tmp_path / "document"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=told):
        user_data.read(path)
    with pytest.raises(UsageError, match="No such file"):
        user_data.read(tmp_path / "none")


def test_scripts_of_the_lab_are_shell(tmp_path: Path) -> None:
    """The quick one ends, and says so in the file that is looked for."""
    where = tmp_path / "ran"
    script = user_data.QUICK.decode().replace(user_data.RAN, str(where))
    words: List[str] = ["sh", "-c", script]
    subprocess.run(words, check=True, timeout=600)
    assert where.read_text() == "once\n"
    assert user_data.ENDLESS.startswith(user_data.QUICK)
