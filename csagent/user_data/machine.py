"""The hands of the runner: files, commands and scripts, on the running machine or in a tree.

In a tree (a root other than /) files are written and commands are shown, not run.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from csagent.errors import ApplyError, StepFailed
from csagent.model import NOTHING
from csagent.state import user_data_record as records
from csagent.system import accounts
from csagent.system.files import write_all
from csagent.system.process import open_nothing
from csagent.system.seams import SEARCH_PATH
from csagent.system.selinux import relabel
from csagent.system.systemd import BOOTED
from csagent.user_data.log_file import PATH as LOG
from csagent.user_data.stopping import Stop

if TYPE_CHECKING:
    from csagent.system.seams import System
    from csagent.user_data.log_file import LogFile

FOLLOW_SECONDS = 0.25  # between two looks at what a script has said
PASSED_ON = ("LANG", "TZ", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
SCRIPTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as systemd gives its services
OWN_COMMAND_SECONDS = 60.0
CHANGED_LIMIT = 16 << 20  # bytes of a file of the system's of which a part is changed


class Machine:
    """What one run of user-data acts on.

    Args:
        system: the machine, or a tree.
        folder: the directory of the instance, where scripts are stored.
        instance_id: for scripts that ask for it.
        metadata: CloudStack's, by its own keys.
        log: where scripts and commands say what they say.
    """

    def __init__(
        self, system: "System", folder: str, instance_id: str, metadata: Mapping[str, str], log: "LogFile"
    ) -> None:
        self.system = system
        self.instance_id = instance_id
        self.metadata = metadata
        self.log = log
        self.named = ""  # the name that a step has given the machine
        self.keeps_password = ""  # the account whose password is CloudStack's, of this instance
        self.warnings: List[str] = []  # of the step that is being carried out
        self.shown_commands: List[str] = []  # in a tree
        self.end: Callable[[], None] = lambda: None  # records the step as done before the machine goes
        self.post: Callable[[str, Dict[str, str], int], None] = _no_network
        self.stop = Stop()
        self._folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_CORE)

    # --- saying ---

    def fail(
        self, text: str, exit: Optional[int] = None, count: Optional[Tuple[int, int]] = None
    ) -> NoReturn:
        """End the step as failed. Raises: StepFailed."""
        raise StepFailed(text, exit, count)

    def warn(self, text: str) -> None:
        """The step is done, but somebody should know."""
        self.warnings.append(text)

    def say(self, text: str) -> None:
        """Into the log, and so on the console."""
        self.log.write(text)
        self.log.follow()

    def console(self, text: str) -> None:
        """On the console only: it is in no file."""
        self.log.console(text.encode("utf-8", "backslashreplace"))

    def shown(self, path: str) -> str:
        """A path as an operator finds it."""
        return self.system.tree.shown(path)

    def tries(self, work: Callable[[], object]) -> bool:
        """Whether something could be done."""
        try:
            work()
        except ApplyError:
            return False
        return True

    # --- files ---

    def owner(self, user: Optional[str], group: Optional[str]) -> Tuple[int, int]:
        """(uid, gid) by name; -1 for what is left alone. Raises: StepFailed where there is no such name."""
        uid, gid = -1, -1
        if user is not None:
            try:
                uid = accounts.find(self.system, user).uid
            except ApplyError:
                self.fail(f"there is no account {user[:60]}: nothing was written")
        if group is not None:
            found = accounts.group_id(self.system, group)
            if found is None:
                self.fail(f"there is no group {group[:60]}: nothing was written")
            gid = found
        if not self.system.live and os.geteuid() != 0:
            return -1, -1  # in a tree of somebody who is not root all is that one's
        return uid, gid

    def write(self, path: str, content: bytes, mode: int, *, keep: bool = False) -> None:
        """Replace a file of root's as a whole. Raises: StepFailed."""
        try:
            self.system.tree.mkdir(os.path.dirname(path), 0o755)
            self._replace(path, content, mode, keep=keep)
        except OSError as error:
            self.fail(f"cannot write {self.shown(path)}: {error.strerror}")
        self.relabel(path)

    def change(self, path: str, change: Callable[[str], str], mode: int, *, keep: bool = True) -> bool:
        """Replace a file of root's by what `change` makes of its text; False where it already was so.

        What others write into it meanwhile is not lost, nor what is behind a limit: a file that cannot be
        read, or that is too large, is left as it is.

        Raises:
            StepFailed: it is as it was.
        """

        def changed(content: bytes) -> bytes:
            text = content.decode("utf-8", "surrogateescape")
            return change(text).encode("utf-8", "surrogateescape")

        tree = self.system.tree
        try:
            tree.mkdir(os.path.dirname(path), 0o755)
            try:
                done = tree.change(path, changed, mode, CHANGED_LIMIT, keep=keep)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                done = self._write_in_place(path, changed(tree.read(path, CHANGED_LIMIT)))
        except OSError as error:
            self.fail(f"cannot write {self.shown(path)}: {error.strerror}")
        self.relabel(path)
        return done

    def _replace(self, path: str, content: bytes, mode: int, *, keep: bool) -> None:
        try:
            self.system.tree.write(path, content, mode, keep=keep)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._write_in_place(path, content)

    def _write_in_place(self, path: str, content: bytes) -> bool:
        """Container engines mount some files of /etc one by one: they can be written and not replaced."""
        descriptor = self.system.tree.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def remove(self, path: str) -> None:
        """Take a file away. Raises: StepFailed."""
        try:
            self.system.tree.remove(path)
        except OSError as error:
            self.fail(f"cannot remove {self.shown(path)}: {error.strerror}")

    def relabel(self, path: str) -> None:
        """Restore its SELinux context."""
        relabel(self.system, path)

    def store(self, folder: str, name: str, content: bytes) -> str:
        """Keep a script below the instance's directory, 0700; its path."""
        path = f"{self._folder}/{folder}/{name}"
        try:
            records.make_folder(self.system, os.path.dirname(path))
            self.system.tree.write(path, content, 0o700)
        except OSError as error:
            self.fail(f"cannot write {self.shown(path)}: {error.strerror}")
        return path

    def make_directory(self, path: str) -> None:
        """Make a directory of root's, 0755, where there is none. Raises: StepFailed."""
        try:
            self.system.tree.mkdir(path, 0o755)
        except OSError as error:
            self.fail(f"cannot make {self.shown(path)}: {error.strerror}")

    # --- commands ---

    def script(self, words: Sequence[str], *, with_id: bool = False) -> None:
        """Run a script of the document to its end. Raises: StepFailed, with its exit code."""
        environment = {"PATH": SCRIPTS_PATH, **({"INSTANCE_ID": self.instance_id} if with_id else {})}
        since = self.log.size
        try:
            code = self._run(words, environment)
        except OSError as error:
            hint = ""
            if error.errno == errno.ENOEXEC:
                hint = ": its first line must begin with #! and name what runs it"
            elif error.errno == errno.ENOENT:
                hint = ": what its first line names is not there"
            elif error.errno == errno.EACCES:
                hint = ": is what its first line names a program, and is /var mounted without noexec?"
            self.fail(f"it could not be run ({error.strerror}){hint}")
        if code == 127 and self.log.size == since:
            self.fail("exit 127: a command was not found", code)
        if code < 0:
            self.fail(f"it was killed by signal {-code}", 128 - code)
        if code != 0:
            self.fail(f"exit {code}", code)

    def command(
        self, words: Sequence[str], *, environment: Mapping[str, str] = NOTHING, quiet: bool = False
    ) -> bytes:
        """Run a command of the system, without a limit in time; what it says goes to the log.

        Nothing of the log is in the reason of a failure, which everybody may read: what the document has left
        running writes there as well.

        Args:
            words: no secret is among them.
            environment: besides that of scripts.
            quiet: it is a short one, and what it says is returned and not logged; a failure's reason has it.

        Raises:
            StepFailed: it ended with another status than 0, or is not installed.
        """
        if not self.system.live:
            self.shown_commands.append(" ".join(words))
            return b""
        if quiet:
            done = self.system.runner.run(words, timeout=OWN_COMMAND_SECONDS)
            if done.code != 0:
                said = done.said.splitlines()
                self.fail(
                    f"{words[0]} {self._ended(done.code)}{': ' + said[-1][:200] if said else ''}", done.code
                )
            return done.output
        try:
            code = self._run(words, {"LC_ALL": "C.UTF-8", **environment})
        except OSError as error:
            self.fail(f"{words[0]}: {'not installed' if error.errno == errno.ENOENT else error.strerror}")
        if code != 0:
            self.fail(f"{words[0]} {self._ended(code)}; {self.shown(LOG)} has what it said", code)
        return b""

    @staticmethod
    def _ended(code: Optional[int]) -> str:
        if code is None:
            return "could not be run"
        return f"was killed by signal {-code}" if code < 0 else f"failed with {code}"

    def exit_code(self, words: Sequence[str], timeout: float) -> Optional[int]:
        """Run a command of the document that decides something; None in a tree, or where it does not end."""
        if not self.system.live:
            self.shown_commands.append(" ".join(words))
            return None
        return self.system.runner.run(words, timeout=timeout).code

    def _run(self, words: Sequence[str], more: Mapping[str, str]) -> int:
        """Start a process as scripts are started, and wait for it alone: its children may stay.

        Raises:
            OSError: it could not be started.
        """
        if not self.system.live:
            self.shown_commands.append(" ".join(words))
            return 0
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment.update(PATH=SEARCH_PATH, HOME="/root", USER="root", LOGNAME="root")
        environment.update(more)
        return self._wait(self._start(words, environment))

    def _start(self, words: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        def surroundings() -> None:
            os.umask(0o022)
            resource.setrlimit(resource.RLIMIT_CORE, self._limits)
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        nothing = open_nothing()
        try:
            return subprocess.Popen(
                list(words),
                stdin=nothing,
                stdout=self.log.descriptor,
                stderr=self.log.descriptor,
                env=environment,
                cwd="/",
                start_new_session=True,
                preexec_fn=surroundings,  # noqa: PLW1509  there are no threads here
            )
        finally:
            os.close(nothing)

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        try:
            while True:
                try:
                    return child.wait(FOLLOW_SECONDS)
                except subprocess.TimeoutExpired:
                    self.log.follow()
                    if self.stop.goes_on() and child.poll() is None:  # it may have ended since
                        self.stop.give_way()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise
        finally:
            self.log.follow()

    def settle(self) -> None:
        """Wait until udev has seen what was done to devices, where it runs."""
        if self.system.live and self.system.runner.available("udevadm"):
            self.system.runner.run(["udevadm", "settle", "--timeout=30"], timeout=OWN_COMMAND_SECONDS)

    # --- the machine itself ---

    def tell_kernel(self, name: str) -> None:
        """Make this the running kernel's host name. Raises: StepFailed."""
        import socket

        if socket.gethostname() == name:
            return
        try:
            socket.sethostname(name)
        except OSError as error:
            self.fail(f"the kernel refused the host name {name}: {error.strerror}")

    def ending(self, words: Sequence[str], seconds: float = 0.0) -> None:
        """End or restart the machine, after the step has been recorded as done.

        Args:
            words: the command.
            seconds: wait so long for the machine to go; 0: it goes later.

        Raises:
            StepFailed: it did not.
        """
        self.end()
        self.command(words)
        if not seconds or not self.system.live:
            return
        clock = self.system.clock
        until = clock.monotonic() + seconds
        while not self.stop.asked:
            if clock.monotonic() > until:
                self.fail("the machine should have gone down by now")
            clock.sleep(FOLLOW_SECONDS)

    def is_going_down(self) -> bool:
        """Whether systemd is about to stop everything, and SIGTERM comes; not asked in a tree."""
        if not self.system.live or not self.system.tree.exists(BOOTED):
            return False
        # Of is-system-running older systemds say `starting` until the boot is over.
        words = ["systemctl", "show", "--property=Job", "--value", "shutdown.target"]
        done = self.system.runner.run(words, timeout=OWN_COMMAND_SECONDS)
        return done.code == 0 and bool(done.output.strip())


def _no_network(_url: str, _fields: Dict[str, str], _tries: int) -> None:
    raise StepFailed("nothing is sent from here")
