"""growpart and resize_rootfs: the root partition and its file system take what the disk has, at each boot."""

from __future__ import annotations

from typing import List

from csagent.user_data.cloud_config.draft import FALSE, Draft, Family, kind_of
from csagent.user_data.execute.grow import GrowPartition, ResizeRoot
from csagent.user_data.plan import BOOT

GROWPART, RESIZE = "growpart", "resize_rootfs"
MODES = ("auto", "growpart", "gpart", "off")


def _plan(draft: Draft) -> None:
    grows = _growpart(draft)
    node = draft.get(RESIZE)
    if node is None:
        if grows:
            growpart = draft.config.value[GROWPART]
            draft.step(
                RESIZE,
                GROWPART,
                "the root file system fills its partition",
                ResizeRoot(),
                [growpart],
                often=BOOT,
                id="root",
            )
        return
    text = str(node.value).lower()
    if text == "noblock" or draft.boolean(RESIZE, node, True):
        draft.step(
            RESIZE, RESIZE, "the root file system fills its partition", ResizeRoot(), [node], often=BOOT
        )


def _growpart(draft: Draft) -> bool:
    node = draft.get(GROWPART)
    if node is None:
        return False
    if not node.is_mapping:
        draft.error(
            GROWPART, f"must be a mapping with a mode, and is {kind_of(node)}", node, draft.line(GROWPART)
        )
        return False
    draft.unknown(GROWPART, node, ("mode", "devices", "ignore_growroot_disabled"))
    mode = node.get("mode")
    text = "auto" if mode is None or mode.value is None else str(mode.value).lower()
    if text in (*FALSE, "off"):
        return False
    if text not in MODES:
        draft.error(GROWPART, f"mode must be one of {', '.join(MODES)}", mode or node)
        return False
    devices: List[str] = ["/"]
    given = node.get("devices")
    if given is not None and given.value is not None:
        words = draft.words(GROWPART, given, "devices", commas=False)
        if words is None or not all(
            isinstance(word.value, str) and word.value.startswith("/") for word in words
        ):
            draft.error(GROWPART, "devices must be a list of directories or devices", given)
            return False
        devices = [word.value for word in words]
    for device in devices:
        action = GrowPartition(device)
        draft.step(
            GROWPART,
            GROWPART,
            f"the partition of {device} takes what follows it",
            action,
            [node],
            id=device,
            often=BOOT,
        )
    return bool(devices)


FAMILY = Family((GROWPART, RESIZE), _plan)
