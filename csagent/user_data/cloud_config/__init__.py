"""The keys of a cloud-config: a module for each family of them, found by its name in FAMILIES."""
