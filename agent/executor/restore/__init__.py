"""The phases of a restore, by what they work on; ``phases`` puts them in order."""
