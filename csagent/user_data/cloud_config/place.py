"""timezone and locale (field/user-data#U79)."""

from __future__ import annotations

import re

from csagent.user_data.cloud_config.draft import FALSE, Draft, Family
from csagent.user_data.execute.place import SetLocale, SetTimezone

TIMEZONE, LOCALE, LOCALE_FILE = "timezone", "locale", "locale_configfile"
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*)*\Z", re.ASCII)
_LOCALE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*\Z", re.ASCII)


def _plan(draft: Draft) -> None:
    node = draft.get(TIMEZONE)
    if node is not None and node.value:
        zone = draft.text(TIMEZONE, node)
        if zone is not None and not _ZONE.match(zone):
            draft.error(TIMEZONE, "must be the name of a zone, such as Europe/Zurich", node)
        elif zone is not None:
            draft.step(TIMEZONE, TIMEZONE, f"time zone {zone}", SetTimezone(zone, draft.facts.family), [node])
    node = draft.get(LOCALE)
    if node is None or (isinstance(node.value, bool) and not node.value) or str(node.value).lower() in FALSE:
        return
    name = draft.text(LOCALE, node)
    file_node = draft.get(LOCALE_FILE)
    path = draft.text(LOCALE_FILE, file_node) if file_node is not None else ""
    if name is None or path is None:
        return
    if not _LOCALE.match(name):
        draft.error(LOCALE, "must be the name of a locale, such as de_CH.UTF-8", node)
    elif path and not path.startswith("/"):
        draft.error(LOCALE_FILE, "must be an absolute path", file_node or node)
    else:
        draft.step(LOCALE, LOCALE, f"locale {name}", SetLocale(name, path, draft.facts.family), [node])


FAMILY = Family((TIMEZONE, LOCALE, LOCALE_FILE), _plan)
