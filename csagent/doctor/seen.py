"""What the places said: asked by doctor now, or recorded in a support archive when it was made."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from csagent.model import Drive, Place


class Seen(NamedTuple):
    """What the places said, now or when the archive was made. Of keys only their types and hashes are kept.

    `looked` is False where nobody was asked: a tree of files says nothing about a network.
    `key_types` are those of the keys that CloudStack gives, or gave: "ssh-ed25519", "ssh-rsa 2048".
    """

    looked: bool = False
    places: Tuple[Place, ...] = ()
    source_found: bool = False
    instance_id: Optional[str] = None
    drives: Tuple[Drive, ...] = ()
    password: str = "unknown"  # offered | none | unknown
    password_given: bool = False  # one is offered, or was applied for this instance before
    keys_given: bool = False
    key_types: Tuple[str, ...] = ()
    key_marks: Optional[Tuple[str, ...]] = None  # `homes.key_mark` of this instance's keys; None: not known
    open_to_all: Tuple[str, ...] = ()  # password servers to which any user of the machine can connect
    root_only: Tuple[str, ...] = ()  # places that csagent's user does not reach, and root does
    as_root: bool = True
    tree: bool = False  # not a machine but a tree of files, as a disk of a template is
    problem: str = ""  # why nothing could be looked at
