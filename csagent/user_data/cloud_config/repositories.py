"""Where packages come from: apt (with apt_sources and apt_proxy of old) on Debian, yum_repos on EL."""

from __future__ import annotations

import re

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.configure import Configure, File
from csagent.user_data.yaml_lines import Node

APT = ("apt", "apt_sources", "apt_proxy")
YUM, YUM_DIR = "yum_repos", "yum_repo_dir"


def _plan(draft: Draft) -> None:
    for keys, other, whose in ((APT, "redhat", "Debian's"), ((YUM,), "debian", "EL's")):
        for key in keys:
            node = draft.get(key)
            if node is not None and draft.facts.family == other:
                text = f"is for {whose} package manager: nothing is done"
                draft.warn(key, text, node, draft.line(key))
    if draft.facts.family != "redhat" and any(draft.get(key) is not None for key in APT):
        from csagent.user_data.cloud_config import apt

        apt.plan(draft)
    if draft.facts.family != "debian":
        _yum(draft)


def _yum(draft: Draft) -> None:
    node = draft.get(YUM)
    if node is None:
        return
    if not node.is_mapping:
        draft.error(YUM, f"must be a mapping of repositories, and is {kind_of(node)}", node, draft.line(YUM))
        return
    folder_node = draft.get(YUM_DIR)
    folder = (draft.text(YUM_DIR, folder_node) if folder_node is not None else None) or "/etc/yum.repos.d"
    for name, one in node.value.items():
        id_ = re.sub(r"[^A-Za-z0-9_.-]", "_", str(name))
        if not one.is_mapping or (
            one.get("baseurl") is None and one.get("metalink") is None and one.get("mirrorlist") is None
        ):
            draft.error(YUM, f"{id_}: must be a mapping with a baseurl", one)
            continue
        lines = [f"[{id_}]"]
        for key, value in one.value.items():
            lines.append(f"{str(key).replace('-', '_')}={_ini(value)}")
        if one.get("name") is None:
            lines.insert(1, f"name={id_}")
        content = "".join(line.replace("\n", "\n\t") + "\n" for line in lines)
        action = Configure((File(f"{folder}/{id_}.repo", Secret(content.encode())),))
        draft.step("repositories", YUM, f"packages of {id_}", action, [one], id=id_)


def _ini(node: Node) -> str:
    if isinstance(node.value, bool):
        return "1" if node.value else "0"
    if node.is_list:
        return "\n".join(str(one.value) for one in node.value)
    return str(node.value)


FAMILY = Family((*APT, YUM, YUM_DIR), _plan)
