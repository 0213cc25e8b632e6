"""Pods as this project changes them: the capture Job, the restore patch, the template hash."""
