"""csagent's parser, with the values that the program knows and argparse does not."""

from __future__ import annotations

import argparse
from typing import Dict, Iterator, Sequence, Tuple

# What a value is, by the words of its metavar.
DIRECTORIES = ("DIR", "TREE", "UNPACKED")
FILES = ("FILE", "PATH", "IMAGE", "YAML", "ISO")

Command = Tuple[str, argparse.ArgumentParser]  # its words, and what parses it


def parser() -> argparse.ArgumentParser:
    """A parser of one's own, to be changed at will: its options with known values have them as choices.

    Raises:
        ValueError: something of it has no help text.
    """
    from csagent.cli.parser import build_parser

    root = build_parser()
    known = _known_values()
    for path, command in commands(root):
        for action in command._actions:
            if not action.help and not isinstance(action, argparse._SubParsersAction):
                raise ValueError(f"{path}: {action.option_strings or action.dest} has no help text")
            action.choices = known.get((path, action.dest), action.choices)
    return root


def commands(parser: argparse.ArgumentParser, path: str = "csagent") -> Iterator[Command]:
    """It and everything below it that --help shows, each with its words."""
    yield path, parser
    for group in parser._action_groups:
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    yield from commands(below, f"{path} {name}")


def metavar(action: argparse.Action) -> str:
    """What its value is called; "" where it takes none."""
    return "" if action.nargs == 0 else str(action.metavar or action.dest.upper())


def kind(action: argparse.Action) -> str:
    """`directory`, `file` or `text`."""
    words = "".join(char if char.isalnum() else " " for char in metavar(action).upper()).split()
    if any(word in DIRECTORIES for word in words):
        return "directory"
    return "file" if any(word in FILES for word in words) else "text"


def _known_values() -> Dict[Tuple[str, str], Sequence[str]]:
    from csagent.cli.status import KEYS
    from csagent.seal.leftovers import NAMES
    from csagent.validation import WELL_KNOWN_KEYS

    return {
        ("csagent query", "key"): (*KEYS, *WELL_KNOWN_KEYS),  # an instance may have keys of its own besides
        ("csagent seal", "keep"): NAMES,
    }
