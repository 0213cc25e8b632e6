"""What the commands do: one module for each, imported when its command runs."""
