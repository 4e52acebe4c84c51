"""cloud-init and old guest scripts: what they do here, and who owns what."""
