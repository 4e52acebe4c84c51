"""Output for people and as JSON."""
