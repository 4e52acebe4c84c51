"""csagent(1) and csagent-lab(1), by argparse-manpage, of a parser that is made ready for it."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Tuple

import command_line
from argparse_manpage.manpage import Manpage

HERE = os.path.dirname(os.path.abspath(__file__))
# By the name of the page: the command that it is of, and what it says of itself behind its name.
PAGES: Dict[str, Tuple[str, str]] = {
    "csagent": ("csagent", "guest agent for Apache CloudStack"),
    "csagent-lab": ("csagent lab", "a virtual router and config drives to try csagent on"),
}
Commands = Dict[str, argparse.ArgumentParser]


def page(name: str, date: str, version: str) -> str:
    """The page."""
    command, summary = PAGES[name]
    commands = dict(command_line.commands(command_line.parser()))
    usual_epilog = commands["csagent"].epilog
    _say_once(commands.values())
    for other, _summary in PAGES.values():
        if other.startswith(f"{command} "):  # it has a page of its own
            parser = commands[other]
            parser._action_groups = [group for group in parser._action_groups if not _of_commands(group)]
    top = commands[command]
    below = {path: one for path, one in command_line.commands(top, command) if one is not top}
    for parser in below.values():
        _prepare(parser, usual_epilog)
    _share_groups(top, below)
    top.description = top.epilog = None
    data = {
        "project_name": "csagent",
        "version": version,
        "description": summary,
        "date": date,
        "manual_title": "User Commands",
        "include": os.path.join(HERE, f"{name}.1.include"),
    }
    made = Manpage(top, data, format="single-commands-section")
    made.prog = name
    return str(made)


class OneLine(argparse.RawDescriptionHelpFormatter):
    """A usage in one line, which the page breaks where it likes, without the word usage."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100_000)

    def _format_usage(
        self, usage: Optional[str], actions: Iterable[Any], groups: Iterable[Any], prefix: Optional[str]
    ) -> str:
        return super()._format_usage(usage, actions, groups, "")


def _of_commands(group: argparse._ArgumentGroup) -> bool:
    """Whether a group is that of the commands below."""
    return any(isinstance(action, argparse._SubParsersAction) for action in group._group_actions)


def _say_once(parsers: Iterable[argparse.ArgumentParser]) -> None:
    """Leave out what is told elsewhere: options that commands have of their parents, a command's help."""
    takers = Counter(action for parser in parsers for action in parser._actions)
    for action, number in takers.items():
        if number > 1:
            action.help = argparse.SUPPRESS
        if isinstance(action, argparse._SubParsersAction):
            for one in action._choices_actions:
                one.help = None  # its description says the same


def _prepare(parser: argparse.ArgumentParser, usual_epilog: Optional[str]) -> None:
    parser.formatter_class = OneLine
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            action.help = argparse.SUPPRESS
        elif action.choices and action.metavar and action.help != argparse.SUPPRESS:
            action.help = f"{action.help}. One of: {', '.join(map(str, action.choices))}"
    if parser.epilog and parser.epilog != usual_epilog:
        parser.description = f"{parser.description}\n\n{parser.epilog}"


def _share_groups(top: argparse.ArgumentParser, commands: Commands) -> None:
    """A group of options that several commands have is a section of its own."""
    found: Dict[str, List[Tuple[str, argparse._ArgumentGroup]]] = {}
    for path, parser in commands.items():
        for group in parser._action_groups[2:]:  # behind positional arguments and options
            if not _of_commands(group):
                found.setdefault(str(group.title), []).append((path, group))
    for title, groups in found.items():
        if len(groups) == 1:
            groups[0][1].title = f"{title}:"
        else:
            for path, group in groups:
                commands[path]._action_groups.remove(group)
                commands[
                    path
                ].description = (
                    f"{commands[path].description}\n\nIt takes the options for {title}, too: see below."
                )
            names = ", ".join(path for path, _group in groups)
            told = f"{names} take these; {groups[0][1].description}."
            top.add_argument_group(f"options for {title}", told)._group_actions = groups[0][1]._group_actions
