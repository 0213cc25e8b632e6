// Package restore is what both peers share: the words, the checkpoints, the decision, and the parts of a restored pod.
package restore

// The words of the contract that a restore needs.
const (
	LabelRestore = "nvidia.com/snapshot-restore"
	LabelSource  = "nvidia.com/snapshot-is-checkpoint-source"
	LabelTarget  = "nvidia.com/snapshot-is-restore-target"
	LabelID      = "nvidia.com/snapshot-checkpoint-id"
	LabelNode    = "nvidia.com/snapshot-node"

	AnnName        = "nvidia.com/dynamo-checkpoint-name"
	AnnFrom        = "nvidia.com/restore-from"
	AnnCandidate   = "nvidia.com/dynamo-checkpoint-restore-candidate"
	AnnPolicy      = "nvidia.com/dynamo-checkpoint-startup-policy"
	AnnStatus      = "nvidia.com/snapshot-checkpoint-status"
	AnnReport      = "nvidia.com/snapshot-restore-report"
	AnnTargets     = "nvidia.com/snapshot-target-containers"
	AnnVersion     = "nvidia.com/snapshot-artifact-version"
	AnnCheckpoint  = "nvidia.com/snapshot-checkpoint"
	AnnAdmission   = "nvidia.com/snapshot-admission"
	AnnStorageType = "nvidia.com/snapshot-storage-type"
	AnnStoragePath = "nvidia.com/snapshot-storage-base-path"
	AnnOriginal    = "nvidia.com/snapshot-original-image."
	AnnRestores    = "nvidia.com/snapshot-restore-status"
	AnnContainers  = "nvidia.com/snapshot-restore-container-id"

	ControlVariable = "DYN_SNAPSHOT_CONTROL_DIR"
	ControlVolume   = "snapshot-control"
	ControlPath     = "/snapshot-control"
	StorageVolume   = "checkpoint-storage"
	MemoryVolume    = "shared-memory"
	MemoryPath      = "/dev/shm"
	Standby         = "/opt/dynamo-snapshot/bin/snapshot-standby"
	Profile         = "profiles/block-iouring.json"

	MaxContainerName = 33
	GateFailures     = 1800
)
