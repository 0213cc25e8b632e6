"""The words that all rooms share, and the pure functions over them. Imports no other room."""
