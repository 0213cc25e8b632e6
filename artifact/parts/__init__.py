"""The parts of a manifest: models without behaviour, each of them one block of it."""
