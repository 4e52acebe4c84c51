"""`csagent doctor --bundle FILE`: a support archive, in the layout that `csagent --root UNPACKED` replays.

Files under their own paths, the output of commands under `_commands/`, the clock in `recorded.json`, and
what doctor itself saw under `_doctor/`. Only what `discover` and `doctor` look at goes in, and only
what a sanitiser keeps of it. All of it is read by a child, with our rights; sanitised, and the leases
judged, by the same child once it has none.
"""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from csagent.doctor.bundle import manifest
from csagent.doctor.bundle.archive import Member, check, pack, put
from csagent.doctor.bundle.collect import FILE_LIMIT, Collection, command_line, nameable
from csagent.errors import JailError
from csagent.model import Found
from csagent.sandbox import jail
from csagent.system.seams import Completed

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.accounts import Account
    from csagent.system.seams import System

__all__ = ["Summary", "check", "write"]

TOTAL_LIMIT = 16 << 20
MAX_NICS = 16
NIC_SECONDS = 2.0
PATIENCE = 90.0
FILE_SECONDS = 3.0  # of the processor's time, for one file or the output of one command
ALL_SECONDS = 30.0
LIMITS = jail.READER._replace(cpu=60, answer=48 << 20)
NEVER = """\
Never in an archive, whatever it says below: passwords and their hashes, private keys, the keys in
authorized_keys, user-data, csagent's memory of passwords, connections of NetworkManager, cloud-init's
instance data, other accounts. Where a file has a place for one of them, a remark stands there.
"""


class Summary(NamedTuple):
    """What was written: the file, its size in bytes, how many files it holds, and what is not among them."""

    destination: str
    size: int
    files: int
    left_out: Tuple[Tuple[str, str], ...]

    def line(self) -> str:
        """One line for the operator."""
        count = len(self.left_out)
        some = "1 thing" if count == 1 else f"{count} things"
        missing = f" {some} could not be put in: see _doctor/left-out.txt." if count else ""
        return (
            f"wrote {self.destination} ({max(1, self.size // 1024)} KiB, {self.files} files): leases, "
            "network, settings, account and sshd facts, csagent's journal and this report; no passwords, "
            f"hashes, keys or user-data.{missing} Look before you send it: tar -tzf {self.destination}"
        )


def write(
    system: "System",
    settings: "Settings",
    destination: str,
    *,
    account: "Optional[Account]" = None,
    documents: "Optional[Mapping[str, Any]]" = None,
    config: Optional[str] = None,
) -> Summary:
    """Make the archive.

    Args:
        system: the machine, or a tree.
        settings: the account and the labels that count.
        destination: a file that is not there yet.
        account: the account as it was found; None: there is none.
        documents: what else goes in, as JSON, by path: `/_doctor/seen.json`.
        config: the settings file of the command line, which stands for the usual ones.

    Raises:
        UsageError: the file is there already.
        CsagentError: it cannot be written.
    """
    check(destination)
    gathered = gather(system, settings, account=account, documents=documents, config=config)
    left_out = gathered.left_out
    text = NEVER + "\n" + "".join(f"{path}: {reason}\n" for path, reason in left_out)
    members = (*gathered.members, Member("/_doctor/left-out.txt", text.encode(), mtime=gathered.now))
    content = pack(members, gathered.now)
    put(destination, content)
    return Summary(destination, len(content), len(members), left_out)


class Gathered(NamedTuple):
    """What the child answers."""

    now: float
    members: Tuple[Member, ...]
    left_out: Tuple[Tuple[str, str], ...]


def gather(
    system: "System",
    settings: "Settings",
    *,
    account: "Optional[Account]" = None,
    documents: "Optional[Mapping[str, Any]]" = None,
    config: Optional[str] = None,
) -> Gathered:
    """All that goes into the archive but the list of what does not."""
    from csagent.sandbox import codec, seccomp

    job = Job(system, settings, account, documents or {}, config)

    def prepare() -> Any:
        job.read()
        return seccomp.load()

    def work(filters: Any, _say: jail.Say) -> Any:
        if filters is not None:
            filters.load(seccomp.finding)
        return codec.encode(job.finish())

    try:
        answer = jail.run(
            jail.Job("the support archive", system, prepare, work, LIMITS, jail.unprivileged()), PATIENCE
        )
        return codec.decode(Gathered, answer)
    except JailError as error:
        return job.without_the_machine(str(error))


def _out_of_time(_number: int, _frame: object) -> None:
    raise TimeoutError


class Job(Collection):
    """What is made of a collection once there are no rights left."""

    spent = 0.0  # seconds of the processor's time that the sanitisers took

    def finish(self) -> Gathered:
        """Sanitise all of it."""
        from csagent.discovery import finder
        from csagent.doctor.bundle import redact

        recording = self.judged._replace(runner=self.finder)
        self.evidence.leases.runner = self.finder
        found = finder.look(recording, self.evidence, self.settings.drive_labels)
        for command in manifest.COMMANDS:
            for nic in found.nics[:MAX_NICS] if "{nic}" in command else ():
                argv = manifest.fill(command, nic=nic.name)
                if argv not in self.finder.heard:
                    self.finder.run(argv, timeout=NIC_SECONDS)
        members: Dict[str, Member] = {}
        for path, (content, name, real) in self.raw.items():
            place = self.places.get(path, Member(path, b"", mtime=self.now))
            kept = (
                b""
                if name == "empty"
                else self._sanitised(path, redact.file_rule(real, name, self.user), content)
            )
            if kept is not None:
                members[path] = place._replace(content=kept)
        if self.system.live:
            self._as_seen(members, found)
        commands: Dict[str, str] = {}
        for path, line, content in self._outputs(redact):
            commands[line] = path[1:]
            members[path] = Member(path, content, mode=0o600, mtime=self.now)
        members["/recorded.json"] = self._json("/recorded.json", {"now": self.now, "commands": commands})
        for path, document in self.documents.items():
            members[path] = Member(path, redact.document(document), mode=0o600, mtime=self.now)
        return Gathered(self.now, tuple(self._bounded(members)), tuple(sorted(self.left_out.items())))

    def _sanitised(self, path: str, rule: Any, content: bytes) -> Optional[bytes]:
        if rule is None:
            self.leave(path, "nobody has said what of it may leave the machine")
            return None
        try:
            kept = self._in_time(rule, content)
        except TimeoutError:
            self.leave(path, "it takes too long to look through")
            return None
        except Exception as error:
            # Its text may carry what was being read.
            self.leave(path, f"not what it should be ({type(error).__name__})")
            return None
        return kept

    def _in_time(self, rule: Any, content: bytes) -> bytes:
        """What the sanitiser makes of it; a file that nobody gets through costs itself and no other.

        Raises:
            TimeoutError: it has used up its time, or the files before it have used up that of all.
        """
        left = min(FILE_SECONDS, ALL_SECONDS - self.spent)
        if left <= 0:
            raise TimeoutError
        started = time.process_time()
        before = signal.signal(signal.SIGVTALRM, _out_of_time)
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, left)
            return bytes(rule(content))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(signal.SIGVTALRM, before)
            self.spent += time.process_time() - started

    def _as_seen(self, members: Dict[str, Member], found: Found) -> None:
        """The kernel's tables as csagent has them from netlink, where the file or `ip` says less."""
        from csagent.discovery import interfaces
        from csagent.doctor.bundle import redact_leases, redact_network

        argv = ("ip", "-j", "addr")
        done = self.commands.run(argv, timeout=NIC_SECONDS)
        said = redact_leases.ip_addr(done.output) if done.code == 0 else b""
        if sorted(interfaces._from_ip_json(said), key=lambda nic: (nic.ifindex, nic.name)) != list(
            found.nics
        ):
            said = redact_network.made_ip_addr(found.nics)
        self.commands.heard[argv] = Completed(0, said, b"")
        path = interfaces.PROC_ROUTE
        text = members[path].content.decode() if path in members else ""
        if sorted(interfaces.parse_proc_route(text), key=lambda route: route.metric) != list(found.routes):
            members[path] = Member(path, redact_network.made_proc_route(found.routes), mtime=self.now)

    def _outputs(self, redact: Any) -> Iterator[Tuple[str, str, bytes]]:
        """(path, command line, sanitised output) of every command that said something."""
        taken: Dict[str, int] = {}
        for argv, done in {**self.commands.heard, **self.finder.heard}.items():
            line = command_line(argv)
            # The finder believes a command that ends well; doctor looks at what is printed.
            if done.code is None or (done.code != 0 and (argv in self.finder.heard or not done.output)):
                continue
            content = self._sanitised(line, redact.command_rule(argv, self.user), done.output)
            if content is None or not nameable(line):
                continue
            stem = re.sub(r"[^A-Za-z0-9.]+", "-", line).strip("-.")[:60]
            taken[stem] = taken.get(stem, 0) + 1
            number = f"-{taken[stem]}" if taken[stem] > 1 else ""
            yield f"/_commands/{stem}{number}.txt", line, content

    def _bounded(self, members: Dict[str, Member]) -> Iterator[Member]:
        """The members that hold no known secret, and are not too large; the small ones first."""
        from csagent.doctor.bundle import redact

        total = 0
        for path, member in sorted(members.items(), key=lambda one: (len(one[1].content), one[0])):
            if redact.leaks(member.content, self.secrets):
                self.leave(path, "it holds a password hash, a private key or the like")
            elif len(member.content) > FILE_LIMIT:
                self.leave(path, f"larger than {FILE_LIMIT >> 20} MiB")
            elif total + len(member.content) > TOTAL_LIMIT:
                self.leave(path, f"more than {TOTAL_LIMIT >> 20} MiB in all")
            else:
                total += len(member.content)
                yield member

    def _json(self, path: str, document: Any) -> Member:
        return Member(path, json.dumps(document, indent=1).encode() + b"\n", mode=0o600, mtime=self.now)

    def without_the_machine(self, problem: str) -> Gathered:
        """Only what doctor itself has found: the child that reads the rest has failed."""
        from csagent.doctor.bundle import redact

        members = [Member(path, redact.document(one), mtime=self.now) for path, one in self.documents.items()]
        members.append(self._json("/recorded.json", {"now": self.now, "commands": {}}))
        return Gathered(self.now, tuple(members), (("everything else", problem),))
