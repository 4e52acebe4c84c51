"""csagent(1), csagent(8) and csagent.yaml(5)."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Sequence, Tuple

from manual_pages import prose
from manual_pages.roff import Page, escape
from manual_pages.words import Argument, Command

Group = Tuple[Argument, ...]


def csagent_1(root: Command, date: str, version: str) -> Page:
    """The commands."""
    page = Page("CSAGENT", 1, date, f"csagent {version}", "User Commands")
    page.heading("NAME")
    page.raw(f"csagent \\- {root.summary}")
    page.heading("SYNOPSIS")
    page.raw(f"\\fBcsagent\\fR {' '.join(_shape(one) for one in root.options)} \\fICOMMAND\\fR ...")
    page.heading("DESCRIPTION")
    page.text(prose.WHAT)
    page.heading("COMMANDS")
    shared = {one.flags for one in root.options}
    groups = _common_groups(root)
    for command in root.all():
        if command is not root:
            _command(page, command, shared, groups)
            if command.epilog not in ("", root.epilog):
                page.text(_sentence(command.epilog))
    for name, (group, commands) in groups.items():
        page.heading(f"OPTIONS FOR {name.upper()}")
        takers = ", ".join(f"`{command.name}`" for command in commands)
        page.text(f"{takers} take these. {_sentence(group[0].about)}")
        _options(page, group)
    page.heading("OPTIONS OF ALL COMMANDS")
    page.text("They stand before the command or, but for those that only csagent itself has, behind it.")
    _options(page, root.options)
    page.heading("EXIT STATUS")
    page.terms((f"`{code}`", text) for code, text in exit_codes())
    page.heading("ENVIRONMENT")
    page.terms(prose.ENVIRONMENT)
    page.heading("FILES")
    page.terms(prose.FILES)
    page.heading("EXAMPLES")
    for about, typed in prose.EXAMPLES:
        page.text(about)
        page.example(typed)
    _see_also(page, "csagent.yaml(5)", "csagent(8)")
    return page


def exit_codes() -> List[Tuple[str, str]]:
    """The codes of csagent.errors with their meanings.

    Raises:
        KeyError: there is one that the prose does not know, or the other way round.
    """
    from csagent import errors

    codes = {name: getattr(errors, name) for name in vars(errors) if name.startswith("EXIT_")}
    if set(codes) != set(prose.EXIT_CODES):
        raise KeyError(
            f"exit codes without a meaning, or meanings without one: {set(codes) ^ set(prose.EXIT_CODES)}"
        )
    known = [
        (str(codes[name]), prose.EXIT_CODES[name]) for name in sorted(codes, key=lambda one: int(codes[one]))
    ]
    return [*known, prose.INTERRUPTED]


def csagent_8(date: str, version: str, units: str) -> Page:
    """The service; `units` is the directory of its units."""
    service = _unit(os.path.join(units, "csagent.service"))
    page = Page("CSAGENT", 8, date, f"csagent {version}", "System Administration")
    page.heading("NAME")
    page.raw("csagent \\- service that makes a machine agree with Apache CloudStack")
    page.heading("SYNOPSIS")
    names = sorted(name for name in os.listdir(units) if re.fullmatch(r"csagent.*\.[a-z]+", name))
    page.raw(f"\\fB{escape(', '.join(names), literal=True)}\\fR")
    page.heading("DESCRIPTION")
    page.text(prose.SERVICE)
    page.heading("UNITS")
    page.terms((f"`{name}`", _unit(os.path.join(units, name)).get("Description", "") + ".") for name in names)
    page.heading("AT BOOT")
    page.text(prose.BOOT)
    page.heading("WHEN IT RUNS A PASS")
    page.terms(prose.WAKES)
    page.text(prose.WAKES_SLOWLY)
    page.heading("READINESS")
    page.text(prose.READY_FOR)
    page.example(prose.READY_UNIT)
    page.text(prose.READY_SAYS)
    page.heading("SSH HOST KEYS")
    page.text(prose.HOST_KEYS)
    page.heading("SIGNALS")
    page.terms(prose.SIGNALS)
    page.heading("WATCHDOG")
    limit = f"{service['StartLimitBurst']} times in {service['StartLimitIntervalSec']}"
    restart = f"{service['Restart']}, after {service['RestartSec']}, at most {limit}"
    page.text(prose.WATCHDOG.format(watchdog=service["WatchdogSec"], restart=restart))
    page.heading("STATE")
    page.text(prose.STATE)
    page.heading("JOURNAL")
    page.text(prose.JOURNAL)
    page.example(prose.JOURNAL_EXAMPLE)
    page.terms(prose.FIELDS)
    page.text("The values of `CSAGENT_EVENT`:")
    page.terms((f"`{name}`", text) for name, text in prose.EVENTS.items())
    page.heading("FILES")
    page.terms(prose.FILES)
    _see_also(page, "csagent(1)", "csagent.yaml(5)", "journalctl(1)", "systemd.unit(5)")
    return page


def csagent_yaml_5(date: str, version: str) -> Page:
    """The settings."""
    from csagent.settings import TABLE, as_yaml

    page = Page("CSAGENT.YAML", 5, date, f"csagent {version}", "File Formats")
    page.heading("NAME")
    page.raw("csagent.yaml \\- settings of csagent, the guest agent for Apache CloudStack")
    page.heading("SYNOPSIS")
    page.raw("\\fI/etc/csagent/csagent.yaml\\fR")
    page.raw(".br")
    page.raw("\\fI/etc/csagent/conf.d/*.yaml\\fR")
    page.heading("DESCRIPTION")
    page.text(prose.SETTINGS)
    page.heading("SETTINGS")
    for one in TABLE:
        page.term(f"`{one.name}` ({one.kind}; default: `{as_yaml(one.default)}`)", one.meaning)
    page.heading("EXAMPLES")
    page.text("A file of one's own beside the packaged one:")
    page.example(prose.SETTINGS_EXAMPLE)
    _see_also(page, "csagent(1)", "csagent(8)")
    return page


def _common_groups(root: Command) -> Dict[str, Tuple[Group, List[Command]]]:
    """Groups of options that several commands share, every option of them alike, by their titles."""
    found: Dict[Group, List[Command]] = {}
    for command in root.all():
        for name in dict.fromkeys(one.group for one in command.options if one.group):
            found.setdefault(tuple(one for one in command.options if one.group == name), []).append(command)
    titles = [group[0].group for group, commands in found.items() if len(commands) > 1]
    return {
        group[0].group: (group, commands)
        for group, commands in found.items()
        if len(commands) > 1 and titles.count(group[0].group) == 1
    }


def _command(
    page: Page,
    command: Command,
    shared: "set[Tuple[str, ...]]",
    groups: Dict[str, Tuple[Group, List[Command]]],
) -> None:
    page.subheading(command.name)
    own = [one for one in command.options if one.flags not in shared and "--help" not in one.flags]
    common = [name for name, (_group, commands) in groups.items() if command in commands]
    words = [*(_shape(one) for one in own), *(_shape(one) for one in command.positionals)]
    if command.commands:
        words.append("\\fICOMMAND\\fR ...")
    page.raw(" ".join([f"\\fB{escape(command.name, literal=True)}\\fR", *words]))
    page.text(_sentence(command.description or command.summary), prose.COMMANDS.get(command.name, ""))
    for one in command.positionals:
        page.term(f"{{{one.metavar}}}", _help(one))
    _options(page, [one for one in own if one.group not in common])
    for name in common:
        page.text(f"The other options are under OPTIONS FOR {name.upper()}.")


def _options(page: Page, options: Sequence[Argument]) -> None:
    for one in options:
        value = f" {{{one.metavar}}}" if one.metavar else ""
        page.term(", ".join(f"`{flag}`{value}" for flag in one.flags), _help(one))


def _help(one: Argument) -> str:
    text = _sentence(one.help)
    if one.words and one.metavar != "|".join(one.words):
        text += f" One of: {', '.join(f'`{word}`' for word in one.words)}."
    return text


def _sentence(text: str) -> str:
    """What --help says, with a capital, a full stop, and its options as options."""
    text = re.sub(r"(?<![\w`-])(--[a-z][a-z-]*[a-z])", r"`\1`", text)
    capital = text[:1] if text.startswith("csagent") else text[:1].upper()
    return capital + text[1:] + ("" if text.endswith(".") else ".")


def _shape(one: Argument) -> str:
    value = f"\\fI{escape(one.metavar, literal=True)}\\fR" if one.metavar else ""
    if one.flags:
        text = f"\\fB{escape(one.flags[0], literal=True)}\\fR" + (f"\\ {value}" if value else "")
    else:
        text = value
    text += "..." if one.many and one.metavar else ""
    return "\\%" + (text if one.required else f"[{text}]")


def _unit(path: str) -> Dict[str, str]:
    """The settings of a unit; of one that is there several times the first."""
    known: Dict[str, str] = {}
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            name, sign, value = line.strip().partition("=")
            if sign and not name.startswith("#"):
                known.setdefault(name, value)
    return known


def _see_also(page: Page, *pages: str) -> None:
    page.heading("SEE ALSO")
    for index, one in enumerate(pages):
        name, section = one.rstrip(")").split("(")
        page.raw(f".BR {name} ({section}){'' if index == len(pages) - 1 else ','}")
