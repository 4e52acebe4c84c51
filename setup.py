"""What pyproject.toml cannot say: data of the wheel that lies elsewhere in the repository, or is generated.

- csagent/data/: units and settings file, for `csagent install-units`;
- share/man, share/bash-completion, share/zsh, share/fish: below the prefix that pip installs to;
- an sdist that is the same whenever and wherever it is made.

There is nothing to compile, and an editable install needs none of it.
"""

import gzip
import os
import subprocess
import sys
import tarfile

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

DATA = (
    "systemd/csagent.service",
    "systemd/csagent-host-keys.service",
    "systemd/csagent-ready.target",
    "systemd/csagent-user-data.path",
    "systemd/csagent-user-data.service",
    "systemd/csagent-user-data.target",
    "systemd/csagent-user-data-early.service",
    "packaging/debian/csagent.logrotate",
    "packaging/rpm/80-csagent.preset",
    "packaging/debian/csagent.yaml",
)
MANUAL = {
    "csagent.1": ("share/man/man1", "csagent.1"),
    "csagent.8": ("share/man/man8", "csagent.8"),
    "csagent.yaml.5": ("share/man/man5", "csagent.yaml.5"),
    "csagent.bash": ("share/bash-completion/completions", "csagent"),
    "_csagent": ("share/zsh/site-functions", "_csagent"),
    "csagent.fish": ("share/fish/vendor_completions.d", "csagent.fish"),
}


class BuildWithData(build_py):
    """Adds the data once the modules are in place."""

    def run(self):
        """Build the modules, then the data."""
        super().run()
        if self.editable_mode:
            return
        target = os.path.join(self.build_lib, "csagent", "data")
        self.mkpath(target)
        for path in DATA:
            self.copy_file(path, os.path.join(target, os.path.basename(path)))
        manual = os.path.join("build", "manual")
        self.mkpath(manual)
        # Their date is that of the changelog's newest entry, as in the Debian package.
        environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        subprocess.run([sys.executable, "packaging/manual", manual], check=True, env=environment)
        files = []
        for made, (directory, name) in MANUAL.items():
            path = os.path.join("build", directory, name)
            self.mkpath(os.path.dirname(path))
            self.copy_file(os.path.join(manual, made), path)
            files.append((directory, [path]))
        self.distribution.data_files = files


class SameSdist(sdist):
    """Members sorted, owned by nobody in particular, all of the same time."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """Write the .tar.gz; setuptools' own has times and owners of the day."""
        when = int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or int(os.stat("csagent/__init__.py").st_mtime)

        def plain(member):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = when
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        path = base_name + ".tar.gz"
        self.mkpath(os.path.dirname(path))
        with (
            open(path, "wb") as raw,
            gzip.GzipFile("", "wb", 9, raw, mtime=when) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # sorted, since Python 3.7
        return path


setup(cmdclass={"build_py": BuildWithData, "sdist": SameSdist})
