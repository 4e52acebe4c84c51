"""What pyproject.toml cannot say: data of the wheel that lies elsewhere in the repository, or is generated.

- csagent/data/: units and settings file, for `csagent install-units`;
- share/man, share/bash-completion, share/zsh, share/fish: below the prefix that pip installs to;
- an sdist that is the same whenever and wherever it is made.

There is nothing to compile, and an editable install needs none of it.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tarfile

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

DATA = (
    "systemd/csagent.service",
    "systemd/csagent-host-keys.service",
    "systemd/csagent-first-pass.service",
    "systemd/csagent-weight.service",
    "systemd/csagent-ready.target",
    "systemd/csagent-console.path",
    "systemd/csagent-console.service",
    "systemd/csagent-user-data.path",
    "systemd/csagent-user-data.service",
    "systemd/csagent-user-data.target",
    "systemd/csagent-user-data-early.service",
    "systemd/csagent-user-data-after-boot.service",
    "packaging/debian/csagent.logrotate",
    "packaging/rpm/80-csagent.preset",
    "packaging/debian/csagent.yaml",
)
# The manual pages and the completion, laid out as below /usr/share. An sdist has them.
MANUAL = "manual"


def make_manual(directory):
    """Take those of the sdist, or make them, which needs argparse-manpage and shtab."""
    if os.path.isdir(MANUAL):
        return MANUAL
    subprocess.run([sys.executable, "packaging/manual/make.py", directory], check=True)
    return directory


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
        manual = make_manual(os.path.join("build", MANUAL))
        self.distribution.data_files = [
            (
                os.path.join("share", os.path.relpath(directory, manual)),
                [os.path.join(directory, one) for one in sorted(names)],
            )
            for directory, _below, names in sorted(os.walk(manual))
            if names
        ]


class SameSdist(sdist):
    """With the manual; members sorted, owned by nobody in particular, all of the same time."""

    def run(self):
        """Have the manual among the sources for as long as it takes."""
        ours = not os.path.isdir(MANUAL)
        try:
            make_manual(MANUAL)
            super().run()
        finally:
            if ours:
                shutil.rmtree(MANUAL, ignore_errors=True)

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
