"""Plans of documents for tests: what they ask for and what is wrong with them, as lines of text."""

from __future__ import annotations

import textwrap
from typing import Any, List

from csagent.user_data.document import make_plan
from csagent.user_data.plan import Plan
from csagent.user_data.surroundings import Facts

METADATA = {"instance-id": "i-2-3-VM", "local-hostname": "vm01", "service-offering": "Small"}
DEBIAN = Facts(
    instance_id="i-2-3-VM",
    metadata=METADATA,
    hostname="vm01",
    user="debian",
    create_user=True,
    distribution="debian",
    version="12",
    codename="bookworm",
    family="debian",
)


def plan_of(config: str, facts: Facts = DEBIAN) -> Plan:
    """The plan of a cloud-config; its first line here is the document's second."""
    return make_plan(("#cloud-config\n" + textwrap.dedent(config)).encode(), facts)


def complaints(plan: Plan) -> List[str]:
    """`error 4 runcmd: ...`, in the order of the parts."""
    return [
        f"{one.severity} {one.line} {one.key or '-'}: {one.text}"
        for part in plan.parts
        for one in part.problems
    ]


def steps(plan: Plan) -> List[str]:
    """`early users: ...`, in the order in which they are done; what the settings ask for left out."""
    return [f"{step.stage} {step.key}: {step.text}" for step in plan.steps if step.parts]


def action(plan: Plan, kind: str) -> Any:
    """The one action of that class."""
    found = [step.action for step in plan.steps if type(step.action).__name__ == kind]
    assert len(found) == 1, found
    return found[0]
