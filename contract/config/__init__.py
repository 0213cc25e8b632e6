"""The chart's values as one strict model, and what else is read from configuration."""
