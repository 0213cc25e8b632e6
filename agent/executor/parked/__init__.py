"""Workers that are restored but for their devices, and stopped until they are woken: both halves of such a restore."""
