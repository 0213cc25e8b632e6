"""Where artifacts are stored. Each backend hands out a local directory descriptor, whatever its storage is."""
