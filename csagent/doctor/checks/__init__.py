"""One module per area: what was seen, what it means, what to do."""
