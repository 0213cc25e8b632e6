package restore

import (
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Stale tells annotations of the wish, and of an earlier restore.
func Stale(key string) bool {
	switch key {
	case AnnCandidate, AnnName, AnnFrom, AnnPolicy, AnnStatus, AnnReport:
		return true
	}
	return strings.HasPrefix(key, AnnRestores) || strings.HasPrefix(key, AnnContainers)
}

// Annotations are those of a pod to be restored.
func Annotations(pod *core.Pod, from Checkpoint, place Storage, targets []int) [][2]string {
	names := make([]string, len(targets))
	for i, index := range targets {
		names[i] = pod.Spec.Containers[index].Name
	}
	return [][2]string{
		{AnnVersion, from.Version}, {AnnTargets, strings.Join(names, ",")}, {AnnCheckpoint, from.Name},
		{AnnAdmission, Shaped}, {AnnStorageType, "pvc"}, {AnnStoragePath, place.BasePath},
	}
}

// Volumes are those that every restored pod has.
func Volumes(place Storage) []core.Volume {
	claim := &core.PersistentVolumeClaimVolumeSource{ClaimName: place.PVCName}
	return []core.Volume{
		{Name: ControlVolume, VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}},
		{Name: StorageVolume, VolumeSource: core.VolumeSource{PersistentVolumeClaim: claim}},
	}
}

// Memory is the volume of shared memory.
func Memory(size string) core.Volume {
	source := &core.EmptyDirVolumeSource{Medium: core.StorageMediumMemory}
	if size != "" {
		limit := resource.MustParse(size)
		source.SizeLimit = &limit
	}
	return core.Volume{Name: MemoryVolume, VolumeSource: core.VolumeSource{EmptyDir: source}}
}

// ControlDirectory is where the target finds its control files.
func ControlDirectory(target *core.Container) string {
	directory := ControlPath
	for _, entry := range target.Env {
		if entry.Name == ControlVariable && entry.Value != "" {
			directory = entry.Value
		}
	}
	return directory
}

// Environment is what a restored container reads, but for its control directory.
func Environment(pod *core.Pod, from Checkpoint, place Storage) []core.EnvVar {
	directory := place.BasePath + "/" + from.ID + "/versions/" + from.Version
	return []core.EnvVar{
		{Name: "DYN_SNAPSHOT_RESTORE_STANDBY", Value: "1"},
		{Name: "DYN_SNAPSHOT_CHECKPOINT_ID", Value: from.ID},
		{Name: "DYN_SNAPSHOT_RESTART_POLICY", Value: First(string(pod.Spec.RestartPolicy), "Always")},
		{Name: "DYN_CHECKPOINT_STORAGE_TYPE", Value: "pvc"},
		{Name: "DYN_CHECKPOINT_LOCATION", Value: directory},
		{Name: "DYN_CHECKPOINT_PATH", Value: directory},
		{Name: "DYN_CHECKPOINT_HASH", Value: from.ID},
	}
}

// StartupGate keeps the other probes off while a restore or a cold start runs.
func StartupGate(target *core.Container, directory string) *core.Probe {
	own := target.StartupProbe
	if own == nil {
		own = target.LivenessProbe
	}
	if own == nil {
		own = target.ReadinessProbe
	}
	if own == nil {
		action := &core.ExecAction{Command: []string{"cat", directory + "/restore-complete"}}
		own = &core.Probe{ProbeHandler: core.ProbeHandler{Exec: action}, TimeoutSeconds: 1}
	}
	gate := own.DeepCopy()
	period, failures := own.PeriodSeconds, own.FailureThreshold
	if period == 0 {
		period = 10
	}
	if failures == 0 {
		failures = 3
	}
	gate.InitialDelaySeconds, gate.PeriodSeconds, gate.SuccessThreshold = 0, 1, 1
	gate.FailureThreshold = max(GateFailures, own.InitialDelaySeconds+period*failures)
	return gate
}

// OnReadyNodes adds to every term that the node's agent is ready.
func OnReadyNodes(present *core.Affinity) *core.Affinity {
	wish := core.NodeSelectorRequirement{Key: LabelNode, Operator: core.NodeSelectorOpIn, Values: []string{"ready"}}
	wanted := present.DeepCopy()
	if wanted == nil {
		wanted = &core.Affinity{}
	}
	if wanted.NodeAffinity == nil {
		wanted.NodeAffinity = &core.NodeAffinity{}
	}
	node := wanted.NodeAffinity
	if node.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		node.RequiredDuringSchedulingIgnoredDuringExecution = &core.NodeSelector{}
	}
	required := node.RequiredDuringSchedulingIgnoredDuringExecution
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = make([]core.NodeSelectorTerm, 1)
	}
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		term.MatchExpressions = append(term.MatchExpressions, wish)
	}
	return wanted
}

// Seccomp is the profile of every restored pod.
func Seccomp() *core.SeccompProfile {
	local := Profile
	return &core.SeccompProfile{Type: core.SeccompProfileTypeLocalhost, LocalhostProfile: &local}
}
