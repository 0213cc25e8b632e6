"""CRIU's images: what is read from them, and what is changed in them before a restore."""
