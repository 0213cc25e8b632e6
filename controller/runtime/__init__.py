"""What the controllers of this process share: how one is set up, and what a planning pass returns."""
