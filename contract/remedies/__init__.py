"""What each reason means and what to do about it."""
