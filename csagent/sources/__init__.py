"""Find and read: the virtual router and the config drive, side by side, as one observation."""
