"""What the controllers of this process share: their setup, the loop that they run, and what a pass plans."""
