"""What was applied, durably; what is published in /run; the lock."""
