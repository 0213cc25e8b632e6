"""The kinds of state of a worker, by what becomes of them."""
