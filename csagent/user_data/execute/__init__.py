"""What the steps do: each module has classes of actions, and how each is carried out by the runner."""
