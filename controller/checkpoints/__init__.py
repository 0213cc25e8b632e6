"""From DynamoCheckpoint to Ready: observe, plan, act, write the status once."""
