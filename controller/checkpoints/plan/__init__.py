"""The state machine of a DynamoCheckpoint, as pure functions: one module for each phase or question."""
