"""What every one of our processes needs to be a good pod: settings, logs, health, tasks."""
