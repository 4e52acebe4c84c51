"""Making a machine a clean template: what has to go, and how it goes."""
