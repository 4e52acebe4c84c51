"""The machine: the seams (files, clock, commands, connections), and what the kernel and systemd say."""
