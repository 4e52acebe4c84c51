"""The virtual router: who it is, what it says, and its passwords. Runs in unprivileged children only."""
