"""What the command line prints, and its words to functions."""
