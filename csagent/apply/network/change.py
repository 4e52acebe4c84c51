"""One change of one NIC: what was before is recorded, files are written, the manager is told, the kernel is
asked; then it is kept, or what was before is put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional, Sequence, Tuple

from csagent.apply.network import files, kernel, managers, probe, renderers, verify
from csagent.apply.network.managers import Manager
from csagent.apply.network.plan import File, NicPlan, Wanted, as_plain
from csagent.errors import ApplyError
from csagent.state import network as state
from csagent.state.network import Former, Pending

if TYPE_CHECKING:
    from csagent.system.seams import System


STAYS = "to mend csagent's file would take it away"  # field/network-data#N23
LONGEST = 300.0  # seconds: a silent gateway before and after, a manager that hangs at each step


class Result(NamedTuple):
    """How it ended: applied, unconfirmed, failed, left, or written (the manager is not up yet)."""

    state: str
    reason: str


def make(
    system: "System", nic: NicPlan, wanted_files: Sequence[File], gone: Sequence[str], differing: bool
) -> Result:
    """Make the change, or, where the files are as they shall be, only see to it that they are in force.

    Args:
        system: the running machine.
        nic: what is to be done.
        wanted_files: the files, in the order in which they are written.
        gone: addresses that csagent gave it before and that it loses.
        differing: whether a file is not as it shall be.

    Raises:
        ApplyError: nothing was changed.
        OSError: as well.
    """
    wanted, interface = nic.wanted, nic.interface
    if wanted is None or interface is None:
        raise ApplyError("there is nothing to be done")
    if nic.starting:
        for file in wanted_files:
            write(system, file)
        return Result("written", f"{nic.owner} reads it when it starts")
    if not differing and not verify.missing(kernel.look(system), wanted, gone):
        return _confirmed(wanted, _silent(system, wanted))
    if nic.beside:
        return Result("left", f"it has an address that somebody gave it: {', '.join(nic.beside)}; {STAYS}")
    pending = _before(system, nic, wanted, wanted_files)
    manager = managers.of(pending.manager, interface, nic.mac)
    state.begin(system, pending)
    try:
        token = manager.guard(system)
    except ApplyError as error:
        state.end(system)
        raise ApplyError(f"nothing was changed: {error}") from None
    try:
        for file in wanted_files:
            write(system, file)
    except OSError as error:
        put_back(system, manager, token, pending)
        return Result("failed", f"{error.strerror}: nothing was changed")
    return finish(system, manager, token, pending, wanted, gone)


def _confirmed(wanted: Wanted, quiet: Sequence[str]) -> Result:
    """It has all that it was given; `quiet` are the gateways that do not answer."""
    given = ", ".join(wanted.addresses)
    if not quiet:
        return Result("applied", given)
    return Result("unconfirmed", f"{given}: {_does_not_answer(quiet)}")


def _does_not_answer(quiet: Sequence[str]) -> str:
    return "; ".join(f"the gateway {gateway} does not answer" for gateway in quiet)


def _silent(system: "System", wanted: Wanted) -> Tuple[str, ...]:
    ifindex = verify.ifindex_of(system, wanted.interface)
    return probe.silent(system, ifindex, [route.via for route in wanted.routes])


def _before(system: "System", nic: NicPlan, wanted: Wanted, wanted_files: Sequence[File]) -> Pending:
    seen = kernel.look(system)
    link = seen.link(wanted.interface)
    return Pending(
        nic.mac,
        wanted.interface,
        str(nic.owner),
        system.clock.now(),
        tuple(_former(system, file.path, file.mode) for file in wanted_files),
        {
            file.path: renderers.fingerprint(nic.mac, file.path, file.content)
            for file in wanted_files
            if file.content is not None
        },
        {} if nic.starting else verify.answering(system, wanted.interface),
        None if link is None else link.mtu,
        nic.source,
        as_plain(wanted),
        () if link is None else tuple(one.address for one in seen.global_addresses(link)),
    )


def _former(system: "System", path: str, mode: int) -> Former:
    try:
        content: Optional[bytes] = system.tree.read(path)
    except FileNotFoundError:
        content = None
    return Former(path, content, files.mode(system, path) or mode)


def write(system: "System", file: File) -> None:
    """Write a file as a whole, with the mode that its reader needs whatever our umask is; or remove it.

    Raises:
        OSError: nothing has changed then.
    """
    if file.content is None:
        system.tree.remove(file.path)
        return
    system.tree.mkdir(file.path.rpartition("/")[0], 0o755)
    system.tree.write(file.path, file.content.encode(), file.mode)


def finish(
    system: "System",
    manager: Manager,
    token: Optional[str],
    pending: Pending,
    wanted: Wanted,
    gone: Sequence[str] = (),
) -> Result:
    """The files are written: tell the manager, look, and keep it or put back what was better."""
    try:
        lacking, quiet = _look(system, manager, wanted, gone)
    except ApplyError as error:
        lacking, quiet = (str(error),), ()
    if not lacking and not quiet:
        return _kept(system, manager, token, _confirmed(wanted, ()))
    why = "; ".join(lacking) or _does_not_answer(quiet)
    if not _was_better(pending, wanted, lacking, quiet):
        why = f"{', '.join(wanted.addresses)}: {why}; nothing worked before, so it stays"
        return _kept(system, manager, token, Result("unconfirmed", why))
    back = put_back(system, manager, token, pending)
    return Result("failed", f"{why}; {back}")


def _look(
    system: "System", manager: Manager, wanted: Wanted, gone: Sequence[str]
) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """What is missing, and which gateways are silent."""
    trouble: Optional[ApplyError] = None
    try:
        manager.take(system)
    except ApplyError as error:
        trouble = error
    lacking = verify.settle(system, wanted, gone)
    if lacking:
        manager.repair(system)
        lacking = verify.settle(system, wanted, gone)
    if lacking and trouble is not None:
        lacking = (str(trouble), *lacking)
    return (lacking, ()) if lacking else ((), _silent(system, wanted))


def _was_better(pending: Pending, wanted: Wanted, lacking: Sequence[str], quiet: Sequence[str]) -> bool:
    """Whether the NIC had a gateway that answered, in a family in which it has none now."""
    if lacking:
        return bool(pending.answered)
    return any(route.via in quiet and str(route.version) in pending.answered for route in wanted.routes)


def _kept(system: "System", manager: Manager, token: Optional[str], result: Result) -> Result:
    try:
        manager.keep(system, token)
    except ApplyError as error:
        return Result("failed", f"{error}: the former state is back")
    return result


def put_back(system: "System", manager: Manager, token: Optional[str], pending: Pending) -> str:
    """The former files, and the manager told of them; what to say of it.

    Where somebody has changed one of ours meanwhile, all stays as they have left it.
    """
    edited = changed_since(system, pending)
    if edited:
        told = f"somebody has changed {', '.join(edited)} since: it stays"
        try:
            manager.keep(system, token)
        except ApplyError as error:
            told += f", but {error}"
        return told
    trouble = []
    try:
        manager.go_back(system, token)
    except ApplyError as error:
        trouble.append(str(error))
    for former in pending.former:
        text = None if former.content is None else former.content.decode("utf-8", "surrogateescape")
        try:
            write(system, File(former.path, text, former.mode))
        except OSError as error:
            trouble.append(f"{former.path}: {error.strerror}")
    try:
        link = kernel.look(system).link(pending.interface)
        moved = link is not None and pending.mtu is not None and link.mtu != pending.mtu
        manager.restored(system, pending.mtu if moved else None)
        trouble += verify.settle(system, Wanted(pending.mac, pending.interface, pending.addresses))
        quiet = _silent_again(system, pending)
    except ApplyError as error:
        trouble.append(str(error))
        quiet = ()
    trouble += [f"the former gateway {gateway} does not answer yet" for gateway in quiet]
    return f"the former state is back{'' if not trouble else ', but ' + '; '.join(trouble)}"


def changed_since(system: "System", pending: Pending) -> Tuple[str, ...]:
    """Files that are neither what was written nor what was there before: their owner's, or gone."""
    former = {one.path: one.content for one in pending.former}
    found = []
    for path, written in pending.written.items():
        try:
            now: Optional[bytes] = system.tree.read(path)
        except FileNotFoundError:
            now = None
        prints = {written, _fingerprint(pending.mac, path, former.get(path))}
        if _fingerprint(pending.mac, path, now) not in prints:
            found.append(path)
    return tuple(found)


def _fingerprint(mac: str, path: str, content: Optional[bytes]) -> str:
    if content is None:
        return ""
    return renderers.fingerprint(mac, path, content.decode("utf-8", "surrogateescape"))


def _silent_again(system: "System", pending: Pending) -> Tuple[str, ...]:
    """Which of the gateways that answered before do not answer now."""
    gateways: Mapping[str, str] = pending.answered
    ifindex = verify.ifindex_of(system, pending.interface)
    return probe.silent(system, ifindex, list(gateways.values())) if gateways else ()
