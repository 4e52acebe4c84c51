"""csagent, the guest agent for Apache CloudStack."""

__version__ = "0.1.0"
