"""A virtual router and config drives to try csagent on, no cloud needed."""
