"""The privileged node side: captures ready workers and restores waiting ones with CRIU."""
