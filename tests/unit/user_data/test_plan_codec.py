"""The plan on its way from the child that has read a document to the runner."""

from __future__ import annotations

import json

from csagent.user_data import plan_codec
from csagent.user_data.execute.ending import FinalMessage
from csagent.user_data.plan import SLOTS, Plan, Step

TEXT = "up after \0uptime\0 seconds\n\tand " + "x" * 2000


def test_what_is_to_be_written_arrives_as_it_was_meant() -> None:
    """Line breaks, tabs and length are its author's; what is only shown is one line."""
    step = Step(
        slot=list(SLOTS)[-1], id="final_message", key="final_message", text="a\nb", action=FinalMessage(TEXT)
    )
    sent = json.loads(json.dumps(plan_codec.encode(Plan("cloud-config", (), (step,)))))
    (came,) = plan_codec.decode(sent).steps
    assert came.action == FinalMessage(TEXT) and "\n" not in came.text


def test_an_action_that_nobody_uses_is_not_made() -> None:
    """`user-data check` shows steps and asks shells about scripts; its classes need not be imported."""
    step = Step(slot=list(SLOTS)[-1], id="x", key="final_message", text="x", action=FinalMessage(TEXT))
    sent = plan_codec.encode(Plan("cloud-config", (), (step,)))
    (came,) = plan_codec.decode(sent, wanted=("RunScript",)).steps
    assert came == step._replace(action=None)
