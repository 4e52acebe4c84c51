"""Carry out a plan: each action is idempotent, compares before it writes, and fails alone."""
