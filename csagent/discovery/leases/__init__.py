"""Leases of DHCP clients: a module per client, and which lease to believe (belief)."""
