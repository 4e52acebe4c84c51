"""When to run a pass: the loop, a pass as a process, what wakes it."""
