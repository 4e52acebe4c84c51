"""Run a function without rights, with limits and a deadline, and check what it answers."""
