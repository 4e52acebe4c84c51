"""Starts what is measured: a process inherits the peak memory of whoever starts it, and this one is small.

A line in is a command, its words parted by NUL; a line out is wall seconds, processor seconds, KiB of the
largest process and the exit status, the children that were waited for included. `-I -S` keeps it small, too.
"""

import os
import sys
import time

sys.stdin.reconfigure(encoding="utf-8")
null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
for line in sys.stdin:
    words = line.rstrip("\n").split("\0")
    began = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, status, flush=True)
