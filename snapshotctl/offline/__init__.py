"""What can be answered from files alone."""
