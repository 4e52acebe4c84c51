"""The config drive: an ISO, read without a mount. Runs in unprivileged children only."""
