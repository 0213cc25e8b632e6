"""From DynamoGraphDeployment to Deployments and automatic checkpoints: observe, plan, act, write the status once."""
