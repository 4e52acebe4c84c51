"""Ask the virtual router and open the config drive. Runs in the unprivileged children only."""
