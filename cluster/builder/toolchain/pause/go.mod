module dynamo-snapshot.invalid/cluster/pause

go 1.26.0
