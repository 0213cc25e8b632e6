"""A worker of somebody else's."""
