"""final_message, phone_home and power_state: what comes last."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from csagent.errors import DocumentError
from csagent.model import Secret
from csagent.user_data import template
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.ending import NAMES, FinalMessage, PhoneHome, PowerState, placeholder
from csagent.user_data.plan import BOOT
from csagent.user_data.yaml_lines import Node

MESSAGE, PHONE_HOME, POWER_STATE = "final_message", "phone_home", "power_state"
POSTED = ("pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn")
OLD_POSTED = ("pub_key_dsa",)
TRIES = 10
MODES = ("poweroff", "reboot", "halt")
WAIT_SECONDS = 30.0
WAIT_LIMIT = 86400.0
URL_LIMIT = 4096
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_.]+)\}|\$([A-Za-z0-9_.]+)")


def _plan(draft: Draft) -> None:
    _phone_home(draft)
    _message(draft)
    _power_state(draft)


def _message(draft: Draft) -> None:
    node = draft.get(MESSAGE)
    if node is None:
        return
    if node.is_list or node.is_mapping:
        draft.warn(MESSAGE, f"must be text, and is {kind_of(node)}: shown as it is", node)
        text: Optional[str] = str(node.plain())
    else:
        text = draft.text(MESSAGE, node)
    if not text or not text.strip():
        return
    text = text.strip()
    if template.HEADER.match(text):
        names = {name: placeholder(name) for one in NAMES for name in (one, one.upper())}
        try:
            text = template.render(text, names).text
        except DocumentError as error:
            draft.error(MESSAGE, f"cannot be rendered: {error.text}", node)
            return
    else:
        text = _VARIABLE.sub(lambda match: _variable(draft, node, match), text)
    draft.step(
        MESSAGE,
        MESSAGE,
        "a message on the console and in the log, at each boot",
        FinalMessage(text),
        [node],
        often=BOOT,
    )


def _variable(draft: Draft, node: Node, match: "re.Match[str]") -> str:
    name = match.group(1) or match.group(2)
    ending = "." if name.endswith(".") and match.group(2) else ""
    name = name[: len(name) - len(ending)]
    if name.lower() in NAMES and name in (name.lower(), name.upper()):
        return placeholder(name) + ending
    draft.warn(MESSAGE, f'has an unknown variable "{name[:40]}": left as it is', node)
    return match.group(0)


def _phone_home(draft: Draft) -> None:
    node = draft.get(PHONE_HOME)
    if node is None:
        return
    url = node.get("url")
    if not node.is_mapping or url is None or not isinstance(url.value, str):
        draft.error(PHONE_HOME, "must be a mapping with a url", node, draft.line(PHONE_HOME))
        return
    draft.unknown(PHONE_HOME, node, ("url", "post", "tries"))
    address = url.value.strip()
    # The URL may hold a token: the plan shows the host alone.
    match = re.match(r"https?://([^/?#@]*@)?([^/?#]+)", address, re.IGNORECASE)
    if match is None or len(address) > URL_LIMIT or any(character.isspace() for character in address):
        draft.error(PHONE_HOME, "url must begin with https:// or http://", url)
        return
    posted = _posted(draft, node.get("post"))
    tries_node = node.get("tries")
    tries = TRIES
    if tries_node is not None and tries_node.value is not None:
        text = tries_node.value if isinstance(tries_node.value, str) else tries_node.text
        if text.strip().isdigit() and 1 <= int(text) <= 100:
            tries = int(text)
        else:
            draft.warn(PHONE_HOME, f"tries must be a number from 1 to 100: taken for {TRIES}", tries_node)
    if posted is None:
        return
    facts = draft.facts
    action = PhoneHome(Secret(address.encode()), posted, tries, facts.instance_id, facts.hostname)
    told = f"tell {match.group(2)[:80]} {', '.join(posted)}"
    draft.step(PHONE_HOME, PHONE_HOME, told, action, [node])


def _posted(draft: Draft, node: Optional[Node]) -> Optional[Tuple[str, ...]]:
    if node is None or node.value is None or node.value == "all":
        return POSTED
    if not node.is_list:
        draft.error(PHONE_HOME, "post must be all, or a list", node)
        return None
    found: List[str] = []
    for one in node.value:
        if one.value in POSTED or one.value in OLD_POSTED:
            found.append(str(one.value))
        else:
            draft.warn(PHONE_HOME, f'post: there is no "{str(one.value)[:40]}": left out', one)
    return tuple(found)


def _power_state(draft: Draft) -> None:
    node = draft.get(POWER_STATE)
    if node is None:
        return
    if not node.is_mapping:
        draft.error(
            POWER_STATE,
            f"must be a mapping with a mode, and is {kind_of(node)}",
            node,
            draft.line(POWER_STATE),
        )
        return
    draft.unknown(POWER_STATE, node, ("mode", "delay", "message", "timeout", "condition"))
    mode = node.get("mode")
    if mode is None or mode.value not in MODES:
        draft.error(POWER_STATE, f"mode must be one of {', '.join(MODES)}", mode or node)
        return
    delay = _delay(draft, node.get("delay"))
    condition = _condition(draft, node.get("condition"))
    if delay is None or condition is None:
        return
    message = node.get("message")
    text = (
        "" if message is None or message.value is None else draft.text(POWER_STATE, message, "message") or ""
    )
    timeout = node.get("timeout")
    seconds = WAIT_SECONDS
    if timeout is not None and timeout.value is not None:
        if not isinstance(timeout.value, (int, float)) or isinstance(timeout.value, bool):
            draft.warn(
                POWER_STATE, f"timeout must be a number of seconds: taken for {WAIT_SECONDS:g}", timeout
            )
        else:
            seconds = max(0.0, min(float(timeout.value), WAIT_LIMIT))
    always, words = condition
    if not always:
        return
    action = PowerState(str(mode.value), delay, text, seconds, words)
    when = "now" if delay == "now" else f"in {delay.lstrip('+')} minutes"
    told = f"{mode.value} {when}" + (", if its condition is met" if words else "")
    draft.step(POWER_STATE, POWER_STATE, told, action, [node])


def _delay(draft: Draft, node: Optional[Node]) -> Optional[str]:
    if node is None or node.value is None or node.value == "now":
        return "now"
    text = node.value if isinstance(node.value, str) else node.text
    if isinstance(node.value, bool) or not re.match(r"\+?[0-9]{1,6}\Z", text, re.ASCII):
        draft.error(POWER_STATE, "delay must be now, or a number of minutes", node)
        return None
    return f"+{int(text.lstrip('+'))}"


def _condition(draft: Draft, node: Optional[Node]) -> Optional[Tuple[bool, Tuple[str, ...]]]:
    """(may it happen, the command that decides); None, and an error, for what is neither."""
    if node is None or node.value is None:
        return True, ()
    if isinstance(node.value, bool):
        return node.value, ()
    if isinstance(node.value, str):
        return True, ("/bin/sh", "-c", node.value)
    if node.is_list and node.value and not any(one.is_list or one.is_mapping for one in node.value):
        return True, tuple(str(one.value) for one in node.value)
    draft.error(POWER_STATE, "condition must be true, false or a command", node)
    return None


FAMILY = Family((MESSAGE, PHONE_HOME, POWER_STATE), _plan)
