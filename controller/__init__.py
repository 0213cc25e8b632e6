"""From a DynamoCheckpoint to its Job and its status: observe, plan, act."""
