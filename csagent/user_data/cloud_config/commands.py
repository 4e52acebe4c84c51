"""bootcmd and runcmd: each is one shell script of its items (field/user-data#U40 to #U44)."""

from __future__ import annotations

from typing import Optional, Tuple

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft, Family
from csagent.user_data.execute.scripts import RunScript
from csagent.user_data.plan import BOOT
from csagent.user_data.scripts import RUNCMD, shell_script
from csagent.user_data.yaml_lines import Node

BOOTCMD = "bootcmd"
PER = "cloud-init-per"  # a program of cloud-init's, which its own examples call in bootcmd


def _plan(draft: Draft) -> None:
    bootcmd = _script(draft, BOOTCMD)
    if bootcmd is not None:
        items, script, lines = bootcmd
        action = RunScript(BOOTCMD, "bootcmd", Secret(script), by_shell=True, with_id=True, lines=lines)
        draft.step(BOOTCMD, BOOTCMD, _told(items, "at each boot"), action, items, often=BOOT)
    runcmd = _script(draft, RUNCMD)
    if runcmd is not None:
        items, script, lines = runcmd
        action = RunScript(RUNCMD, "scripts", Secret(script), lines=lines)
        draft.step("scripts", RUNCMD, _told(items, "as one script"), action, items)


def _script(draft: Draft, key: str) -> Optional[Tuple[Tuple[Node, ...], bytes, Tuple[int, ...]]]:
    node = draft.get(key)
    if node is None:
        return None
    if isinstance(node.value, str):
        draft.error(
            key, "must be a list of commands, and is one text: nothing of it runs", node, draft.line(key)
        )
        return None
    items = draft.entries(key)
    text, wrong = shell_script(items)
    for bad in wrong:
        told = f"item {bad.number}: {bad.what}. Nothing of {key} runs"
        draft.error(key, told, items[bad.number - 1], bad.line)
    if wrong or not items:
        return None
    for number, item in enumerate(items, 1):
        if _first_word(item) == PER:
            told = f"item {number}: {PER} comes with cloud-init, and without that is not found (exit 127)"
            draft.warn(key, told, item, item.line)
    lines = [items[0].line]
    for item in items:
        if item.value is not None:
            size = item.value.count("\n") + 1 if isinstance(item.value, str) else 1
            lines += [item.line] * size
    return tuple(items), text.encode("utf-8", "surrogateescape"), tuple(lines)


def _first_word(item: Node) -> str:
    first = item.value[0].value if item.is_list and item.value else item.value
    return first.split(None, 1)[0] if isinstance(first, str) and first.strip() else ""


def _told(items: Tuple[Node, ...], how: str) -> str:
    count = sum(item.value is not None for item in items)
    return f"{count} command{'' if count == 1 else 's'}, {how}"


FAMILY = Family((BOOTCMD, RUNCMD), _plan)
