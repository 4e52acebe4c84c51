"""keyboard, ca_certs, resolv_conf: files of the system, and what makes it read them."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.configure import Configure, File
from csagent.user_data.yaml_lines import Node

KEYBOARD, CERTIFICATES, RESOLV_CONF, MANAGE = (
    "keyboard",
    ("ca_certs", "ca-certs"),
    "resolv_conf",
    "manage_resolv_conf",
)
MODEL = "pc105"
_WORD = re.compile(r"[\w,:+()./-]*\Z", re.ASCII)

CERTIFICATE_PLACES = {
    "debian": ("/usr/local/share/ca-certificates/cloud-init-ca-cert-{}.crt", ("update-ca-certificates",)),
    "redhat": ("/etc/pki/ca-trust/source/anchors/cloud-init-ca-cert-{}.crt", ("update-ca-trust",)),
}
CONFIG = "/etc/ca-certificates.conf"
DISTRUST = ("sed", "--in-place", "s/^[^#!]/!&/", CONFIG)  # as update-ca-certificates(8) says


def _plan(draft: Draft) -> None:
    _keyboard(draft)
    _certificates(draft)
    _resolv_conf(draft)


def _mapping(draft: Draft, key: str, known: Tuple[str, ...]) -> Optional[Node]:
    node = draft.get(key)
    if node is None:
        return None
    if not node.is_mapping:
        draft.error(key, f"must be a mapping, and is {kind_of(node)}", node, draft.line(key))
        return None
    draft.unknown(key, node, known)
    return node


def _keyboard(draft: Draft) -> None:
    node = _mapping(draft, KEYBOARD, ("layout", "model", "variant", "options"))
    if node is None:
        return
    values = {"layout": "", "model": MODEL, "variant": "", "options": ""}
    for name in values:
        given = node.get(name)
        if given is not None and given.value is not None:
            text = draft.text(KEYBOARD, given, name)
            if text is None or not _WORD.match(text):
                draft.error(KEYBOARD, f"{name} has characters that it cannot have", given)
                return
            values[name] = text
    if not values["layout"]:
        draft.error(KEYBOARD, "needs a layout, such as de", node, draft.line(KEYBOARD))
        return
    if draft.facts.family == "redhat":
        words = ("localectl", "set-x11-keymap", *values.values())
        action = Configure((), (words,))
    else:
        lines = [f'XKB{name.upper()}="{values[name]}"' for name in ("model", "layout", "variant", "options")]
        text = "\n".join([*lines, "", 'BACKSPACE="guess"', ""])
        action = Configure((File("/etc/default/keyboard", Secret(text.encode())),), (), ("console-setup",))
    draft.step(KEYBOARD, KEYBOARD, f"keyboard {values['layout']}", action, [node])


def _certificates(draft: Draft) -> None:
    found = draft.first(*CERTIFICATES)
    if found is None:
        return
    key, node = found
    if not node.is_mapping:
        draft.error(key, f"must be a mapping, and is {kind_of(node)}", node, draft.line(key))
        return
    draft.unknown(key, node, ("trusted", "remove_defaults", "remove-defaults"))
    place = CERTIFICATE_PLACES.get(draft.facts.family)
    if place is None:
        draft.error(key, "where certificates are kept is not known on this distribution", node)
        return
    trusted = _trusted(draft, key, node.get("trusted"))
    if trusted is None:
        return
    removed = node.get("remove_defaults") or node.get("remove-defaults")
    files = [
        File(place[0].format(number), Secret(text.encode("utf-8", "surrogateescape")))
        for number, text in enumerate(trusted, 1)
    ]
    commands: List[Tuple[str, ...]] = [place[1]]
    if draft.boolean(key, removed, False, "remove_defaults"):
        if draft.facts.family == "debian":
            commands.insert(0, DISTRUST)
        else:
            draft.warn(key, "remove_defaults is not done on this distribution", node)
    told = f"{len(trusted)} certificate{'' if len(trusted) == 1 else 's'} of authorities"
    draft.step("certificates", key, told, Configure(tuple(files), tuple(commands)), [node])


def _trusted(draft: Draft, key: str, node: Optional[Node]) -> Optional[List[str]]:
    if node is None or node.value is None:
        return []
    values = node.value if node.is_list else [node]
    found = []
    for number, one in enumerate(values, 1):
        if not isinstance(one.value, str) or "-----BEGIN CERTIFICATE-----" not in one.value:
            draft.error(key, f"trusted, entry {number}: is no certificate in PEM form", one)
            return None
        found.append(one.value if one.value.endswith("\n") else one.value + "\n")
    return found


def _resolv_conf(draft: Draft) -> None:
    managed = draft.get(MANAGE)
    if managed is None or not draft.boolean(MANAGE, managed, False):
        node = draft.get(RESOLV_CONF)
        if node is not None and managed is None:
            draft.warn(
                RESOLV_CONF, "has no effect without manage_resolv_conf: true", node, draft.line(RESOLV_CONF)
            )
        return
    if draft.get(RESOLV_CONF) is None:
        draft.warn(MANAGE, "has no effect without resolv_conf", managed, draft.line(MANAGE))
        return
    if draft.facts.family == "debian":
        # Of Debian's and Ubuntu's cloud-init this is no module.
        text = "is for EL: on this distribution the network's configuration says which name servers there are"
        draft.warn(RESOLV_CONF, text, draft.config.value[RESOLV_CONF], draft.line(RESOLV_CONF))
        return
    node = _mapping(draft, RESOLV_CONF, ("nameservers", "searchdomains", "domain", "sortlist", "options"))
    if node is None:
        return
    lines = [f"nameserver {word}" for word in _words(draft, node, "nameservers")]
    for name, keyword in (("searchdomains", "search"), ("domain", "domain"), ("sortlist", "sortlist")):
        words = _words(draft, node, name)
        lines += [f"{keyword} {' '.join(words)}"] if words else []
    options = node.get("options")
    flags = []
    for option, value in (options.value if options is not None and options.is_mapping else {}).items():
        if value.value is True:
            flags.append(str(option))
        elif value.value not in (False, None):
            flags.append(f"{option}:{value.value}")
    lines += [f"options {' '.join(flags)}"] if flags else []
    text = "".join(line + "\n" for line in lines)
    if any(character in text for character in "\0\r"):
        draft.error(RESOLV_CONF, "has characters that it cannot have", node)
        return
    action = Configure((File("/etc/resolv.conf", Secret(text.encode())),))
    draft.step(RESOLV_CONF, RESOLV_CONF, "/etc/resolv.conf", action, [node, managed], also=(MANAGE,))


def _words(draft: Draft, node: Node, name: str) -> List[str]:
    given = node.get(name)
    if given is None or given.value is None:
        return []
    words = draft.words(RESOLV_CONF, given, name) or []
    return [str(word.value).strip() for word in words if isinstance(word.value, (str, int))]


FAMILY = Family((KEYBOARD, *CERTIFICATES, RESOLV_CONF, MANAGE), _plan)
