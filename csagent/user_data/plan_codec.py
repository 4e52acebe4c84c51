"""A plan as JSON between the child that reads a document and the parent that carries it out.

What comes back is checked field by field, as all that the children say: the actions by their own classes.
"""

from __future__ import annotations

import importlib
from typing import Any, Container, Dict, NamedTuple, Tuple

from csagent.errors import JailError
from csagent.sandbox import codec
from csagent.user_data.plan import SLOTS, Include, Part, Plan, Step

ACTIONS: Dict[str, str] = {
    "RunScript": "scripts",
    "WriteFile": "files",
    "AddGroup": "accounts",
    "AddUser": "accounts",
    "SetPassword": "passwords",
    "PasswordLogins": "passwords",
    "AuthorizeKeys": "ssh",
    "HostKey": "ssh",
    "SetHostname": "names",
    "WriteHosts": "names",
    "SetTimezone": "place",
    "SetLocale": "place",
    "RefreshIndex": "packages",
    "UpgradePackages": "packages",
    "InstallPackages": "packages",
    "RebootIfRequired": "packages",
    "Configure": "configure",
    "ConfigureNtp": "ntp",
    "FetchKey": "repositories",
    "SourcesFile": "repositories",
    "SetSelections": "repositories",
    "PartitionDisk": "disks",
    "MakeFilesystem": "disks",
    "MountAll": "mounts",
    "MakeSwap": "mounts",
    "GrowPartition": "grow",
    "ResizeRoot": "grow",
    "FinalMessage": "ending",
    "PhoneHome": "ending",
    "PowerState": "ending",
}
"""Every class of actions, and its module in `csagent.user_data.execute`."""

ITEMS_LIMIT = codec.ITEMS_LIMIT


class _Includes(NamedTuple):
    of: Tuple[Include, ...]


class _Text(NamedTuple):
    of: str


def encode(plan: Plan) -> Any:
    """The plan as JSON."""
    return {
        "kind": plan.kind,
        "parts": codec.encode(plan.parts),
        "steps": [
            {
                **codec.encode(step),
                "action": {"do": type(step.action).__name__, "of": codec.encode(step.action)},
            }
            for step in plan.steps
        ],
        "includes": codec.encode(plan.includes),
    }


def decode(document: Any, wanted: Container[str] = ACTIONS) -> Plan:
    """The plan that `encode` has made of it.

    Args:
        document: from the child.
        wanted: the classes of actions that are used; a step with another one has none.

    Raises:
        JailError: something of it does not fit.
    """
    if not isinstance(document, dict) or set(document) != {"kind", "parts", "steps", "includes"}:
        raise JailError("the reading child answered with a wrong plan")
    parts, steps = document["parts"], document["steps"]
    if not isinstance(parts, list) or not isinstance(steps, list) or len(steps) > ITEMS_LIMIT:
        raise JailError("the reading child answered with a wrong plan")
    known = tuple(codec.decode(Part, part) for part in parts)
    includes = codec.decode(_Includes, {"of": document["includes"]}, cleaned=False).of
    kind = codec.decode(_Text, {"of": document["kind"]}).of
    return Plan(kind, known, tuple(_step(step, len(known), wanted) for step in steps), includes)


def _step(document: Any, parts: int, wanted: Container[str]) -> Step:
    action = document.get("action") if isinstance(document, dict) else None
    if not isinstance(action, dict) or set(action) != {"do", "of"} or action["do"] not in ACTIONS:
        raise JailError("the reading child answered with an unknown action")
    made = None
    if action["do"] in wanted:
        module = importlib.import_module(f"csagent.user_data.execute.{ACTIONS[action['do']]}")
        made = codec.decode(getattr(module, action["do"]), action["of"], cleaned=False)
    step = codec.decode(Step, {**document, "action": None})._replace(action=made)
    if step.slot not in SLOTS or any(not 0 <= number < parts for number in step.parts):
        raise JailError("the reading child answered with a step of an unknown place")
    return step
