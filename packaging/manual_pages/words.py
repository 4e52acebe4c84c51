"""csagent's command line as plain values: what argparse knows, without argparse."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

USUAL_GROUPS = ("options", "optional arguments", "positional arguments")  # 3.9 says "optional arguments"

# What an argument stands for, by the words of its metavar. Others have nothing to complete.
DIRECTORIES = ("DIR", "TREE", "UNPACKED")
FILES = ("FILE", "PATH", "IMAGE", "YAML", "ISO")


@dataclass(frozen=True)
class Argument:
    """An option or a positional argument."""

    flags: Tuple[str, ...]  # empty: positional
    metavar: Optional[str]  # None: it takes no value
    words: Tuple[str, ...]  # the values there are, where that is known
    kind: str  # "directory", "file" or "text"
    help: str
    group: str  # the title under which --help lists it, "" for the usual ones
    about: str  # what --help says of that group
    required: bool
    many: bool  # may be given, or may take values, several times
    rivals: Tuple[str, ...]  # flags that cannot stand beside it


@dataclass(frozen=True)
class Command:
    """A command, with those below it; the first of them is csagent itself."""

    path: Tuple[str, ...]
    summary: str
    description: str
    epilog: str
    options: Tuple[Argument, ...]
    positionals: Tuple[Argument, ...]
    commands: Tuple["Command", ...]

    @property
    def name(self) -> str:
        """As it is typed."""
        return " ".join(self.path)

    def all(self) -> Iterator["Command"]:
        """It, and everything below it."""
        yield self
        for command in self.commands:
            yield from command.all()


def read() -> Command:
    """The whole command line of this checkout.

    Raises:
        ValueError: something of it has no help text.
    """
    from csagent.cli.parser import build_parser

    return _command(build_parser(True), ("csagent",), "guest agent for Apache CloudStack")


def known_values(command: str, argument: str) -> Tuple[str, ...]:
    """Values that the program knows by name where argparse does not."""
    from csagent.cli.status import KEYS
    from csagent.seal.leftovers import NAMES
    from csagent.validation import WELL_KNOWN_KEYS

    known = {
        ("csagent query", "KEY"): (*KEYS, *WELL_KNOWN_KEYS),  # an instance may have keys of its own besides
        ("csagent seal", "--keep"): NAMES,
    }
    return known.get((command, argument), ())


def _command(parser: argparse.ArgumentParser, path: Tuple[str, ...], summary: str) -> Command:
    if not summary:
        raise ValueError(f"{' '.join(path)} has no help text")
    below: List[Command] = []
    arguments: List[Argument] = []
    for group in parser._action_groups:
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                summaries = {one.dest: one.help or "" for one in action._choices_actions}
                below += [
                    _command(one, (*path, name), summaries.get(name, ""))
                    for name, one in action.choices.items()
                ]
            elif action.help is not argparse.SUPPRESS:
                arguments.append(_argument(parser, action, path, group))
    return Command(
        path=path,
        summary=summary,
        description=" ".join((parser.description or "").split()),
        epilog=" ".join((parser.epilog or "").split()),
        options=tuple(one for one in arguments if one.flags),
        positionals=tuple(one for one in arguments if not one.flags),
        commands=tuple(below),
    )


def _argument(
    parser: argparse.ArgumentParser,
    action: argparse.Action,
    path: Tuple[str, ...],
    group: argparse._ArgumentGroup,
) -> Argument:
    shown = "/".join(action.option_strings) or str(action.metavar or action.dest)
    if not action.help:
        raise ValueError(f"{' '.join(path)}: {shown} has no help text")
    takes = action.nargs != 0
    words = tuple(str(word) for word in action.choices or ())
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    words = words or known_values(" ".join(path), (*action.option_strings, metavar)[0])
    if words and metavar == action.dest.upper() and action.option_strings and len(words) <= 3:
        metavar = "|".join(words)
    rivals: List[str] = []
    for exclusive in parser._mutually_exclusive_groups:
        if action in exclusive._group_actions:
            rivals += [
                flag for one in exclusive._group_actions if one is not action for flag in one.option_strings
            ]
    return Argument(
        flags=tuple(action.option_strings),
        metavar=metavar if takes else None,
        words=words,
        kind=_kind(metavar) if takes else "text",
        help=" ".join(parser._get_formatter()._expand_help(action).split()),
        group="" if group.title in USUAL_GROUPS else group.title or "",
        about=group.description or "",
        required=bool(action.required),
        many=isinstance(action, (argparse._CountAction, argparse._AppendAction))
        or action.nargs in ("*", "+"),
        rivals=tuple(rivals),
    )


def _kind(metavar: str) -> str:
    words = "".join(char if char.isalnum() else " " for char in metavar.upper()).split()
    if any(word in DIRECTORIES for word in words):
        return "directory"
    return "file" if any(word in FILES for word in words) else "text"
