"""The support archive: what a maintainer needs to see the same elsewhere, and no secret."""
