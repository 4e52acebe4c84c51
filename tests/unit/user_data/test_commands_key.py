"""runcmd and bootcmd."""

from __future__ import annotations

import pytest
from support.user_data_plans import action, complaints, plan_of, steps

from csagent.user_data.plan import BOOT


def test_items_become_one_script() -> None:
    """Text as it is, each word of a list quoted, null passed over (field/user-data#U44)."""
    plan = plan_of(
        """\
        runcmd:
          - cd /tmp && x=1
          - [echo, "it's", 700, -6]
          - null
          - ""
        """
    )
    script = action(plan, "RunScript").content.reveal().decode()
    assert script == "#!/bin/sh\ncd /tmp && x=1\n'echo' 'it'\\''s' '700' '-6'\n\n"
    assert complaints(plan) == []
    assert steps(plan) == ["final runcmd: 3 commands, as one script"]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("echo note: x", "YAML reads it as a mapping, for its colon and blank: quote the whole command"),
        ("false", 'YAML reads it as a boolean: write "false" in quotes'),
        ("12", 'YAML reads it as a number or date: write "12" in quotes'),
    ],
)
@pytest.mark.parametrize("key", ["runcmd", "bootcmd"])
def test_a_bad_item_refuses_the_key(key: str, item: str, said: str) -> None:
    """With its number and line; the other keys run (field/user-data#U41)."""
    plan = plan_of(f"{key}:\n  - true\n  - {item}\npackages: [hello]\n".replace("- true", "- 'true'"))
    assert complaints(plan) == [f"error 4 {key}: item 2: {said}. Nothing of {key} runs"]
    assert "final packages: install hello" in steps(plan)
    assert not [one for one in plan.steps if one.key == key]
    assert plan.outcome == "partly"


@pytest.mark.parametrize("item", ["[cloud-init-per, once, x, mkfs, /dev/vdb]", "cloud-init-per once x true"])
@pytest.mark.parametrize("key", ["runcmd", "bootcmd"])
def test_a_program_of_cloud_inits_is_warned_of(key: str, item: str) -> None:
    """cloud-init's own examples call cloud-init-per; a machine without cloud-init has none."""
    plan = plan_of(f"{key}:\n  - null\n  - ' '\n  - {item}\n  - echo cloud-init-per\n")
    said = "cloud-init-per comes with cloud-init, and without that is not found (exit 127)"
    assert complaints(plan) == [f"warning 5 {key}: item 3: {said}"]
    assert plan.outcome == "runs"


def test_one_text_is_refused() -> None:
    """cloud-init loses it without a word (field/user-data#U42)."""
    plan = plan_of("runcmd: echo a\n")
    assert complaints(plan) == [
        "error 2 runcmd: must be a list of commands, and is one text: nothing of it runs"
    ]
    assert plan.outcome == "nothing"


def test_a_mapping_is_refused() -> None:
    """It is no list."""
    assert complaints(plan_of("runcmd: {a: b}\n")) == [
        "error 2 runcmd: must be a list, and is a mapping: nothing of it runs"
    ]


@pytest.mark.parametrize("value", ["", "null", "[]", "[null]"])
def test_nothing_is_nothing(value: str) -> None:
    """A key without a value, or an empty list, is no error."""
    plan = plan_of(f"runcmd: {value}\n")
    assert complaints(plan) == []
    assert plan.outcome == "runs"


def test_bootcmd_runs_at_each_boot() -> None:
    """By /bin/sh, with the instance's id in its environment."""
    plan = plan_of("bootcmd:\n  - echo a\n")
    (step,) = [one for one in plan.steps if one.parts]
    assert (step.often, step.stage) == (BOOT, "early")
    assert step.action.by_shell
    assert step.action.with_id


def test_a_script_knows_the_lines_of_the_document() -> None:
    """So that what the shell says can be told with the document's line."""
    plan = plan_of("runcmd:\n  - |\n    a\n    b\n  - null\n  - c\n")
    assert action(plan, "RunScript").lines == (3, 3, 3, 3, 7)
