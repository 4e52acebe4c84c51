"""Units and settings file of an installation by pip."""
