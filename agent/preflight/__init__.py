"""What a capture would not carry, found in the live processes before anything is frozen."""
