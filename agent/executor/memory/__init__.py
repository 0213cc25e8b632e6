"""How the memory of a restored worker comes back: the choice, and standby as its guard meanwhile."""
