package main

// The words of the contract that a restore needs.
const (
	labelRestore = "nvidia.com/snapshot-restore"
	labelSource  = "nvidia.com/snapshot-is-checkpoint-source"
	labelTarget  = "nvidia.com/snapshot-is-restore-target"
	labelID      = "nvidia.com/snapshot-checkpoint-id"
	labelNode    = "nvidia.com/snapshot-node"

	annName        = "nvidia.com/dynamo-checkpoint-name"
	annFrom        = "nvidia.com/restore-from"
	annCandidate   = "nvidia.com/dynamo-checkpoint-restore-candidate"
	annPolicy      = "nvidia.com/dynamo-checkpoint-startup-policy"
	annStatus      = "nvidia.com/snapshot-checkpoint-status"
	annReport      = "nvidia.com/snapshot-restore-report"
	annTargets     = "nvidia.com/snapshot-target-containers"
	annVersion     = "nvidia.com/snapshot-artifact-version"
	annCheckpoint  = "nvidia.com/snapshot-checkpoint"
	annAdmission   = "nvidia.com/snapshot-admission"
	annStorageType = "nvidia.com/snapshot-storage-type"
	annStoragePath = "nvidia.com/snapshot-storage-base-path"
	annOriginal    = "nvidia.com/snapshot-original-image."
	annRestores    = "nvidia.com/snapshot-restore-status"
	annContainers  = "nvidia.com/snapshot-restore-container-id"

	controlVolume = "snapshot-control"
	controlPath   = "/snapshot-control"
	storageVolume = "checkpoint-storage"
	memoryVolume  = "shared-memory"
	memoryPath    = "/dev/shm"
	standby       = "/opt/dynamo-snapshot/bin/snapshot-standby"
	profile       = "profiles/block-iouring.json"

	maxContainerName = 33
	gateFailures     = 1800
)
