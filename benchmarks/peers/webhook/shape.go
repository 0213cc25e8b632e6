package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// operation is one step of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// shape makes a restoring pod of the one admitted.
func (h *handler) shape(pod *core.Pod, from checkpoint, targets []int) []operation {
	made := shapeMetadata(pod, from, h.storage, targets)
	volumes := []core.Volume{
		{Name: controlVolume, VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}},
		{Name: storageVolume, VolumeSource: core.VolumeSource{
			PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: h.storage.PVCName}}},
	}
	for _, index := range targets {
		made = h.shapeContainer(made, pod, index, from, &volumes)
	}
	return shapeSpec(made, pod, from, volumes)
}

func shapeMetadata(pod *core.Pod, from checkpoint, place storage, targets []int) []operation {
	var made []operation
	if _, there := pod.Labels[labelSource]; there {
		made = append(made, operation{"remove", "/metadata/labels/" + pointer.Replace(labelSource), nil})
	}
	made = setAll(made, "/metadata/labels", pod.Labels, [][2]string{{labelTarget, "true"}, {labelID, from.id}})
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if stale(key) {
			made = append(made, operation{"remove", "/metadata/annotations/" + pointer.Replace(key), nil})
		}
	}
	names := make([]string, len(targets))
	for i, index := range targets {
		names[i] = pod.Spec.Containers[index].Name
	}
	return setAll(made, "/metadata/annotations", pod.Annotations, [][2]string{
		{annVersion, from.version}, {annTargets, strings.Join(names, ",")}, {annCheckpoint, from.name},
		{annAdmission, "restore-shaped"}, {annStorageType, "pvc"}, {annStoragePath, place.BasePath},
	})
}

func stale(key string) bool {
	switch key {
	case annCandidate, annName, annFrom, annPolicy, annStatus, annReport:
		return true
	}
	return strings.HasPrefix(key, annRestores) || strings.HasPrefix(key, annContainers)
}

func setAll(made []operation, path string, present map[string]string, wanted [][2]string) []operation {
	if len(present) == 0 {
		all := make(map[string]string, len(wanted))
		for _, pair := range wanted {
			all[pair[0]] = pair[1]
		}
		return append(made, operation{"add", path, all})
	}
	for _, pair := range wanted {
		if value, there := present[pair[0]]; !there || value != pair[1] {
			made = append(made, operation{"add", path + "/" + pointer.Replace(pair[0]), pair[1]})
		}
	}
	return made
}

func (h *handler) shapeContainer(made []operation, pod *core.Pod, index int, from checkpoint, volumes *[]core.Volume) []operation {
	target := &pod.Spec.Containers[index]
	path := "/spec/containers/" + strconv.Itoa(index)
	directory := controlPath
	for _, entry := range target.Env {
		if entry.Name == "DYN_SNAPSHOT_CONTROL_DIR" && entry.Value != "" {
			directory = entry.Value
		}
	}
	if len(target.Command) == 0 {
		made = append(made, operation{"add", path + "/command", []string{standby, "--image-entrypoint", "--"}})
	} else if target.Command[0] != standby {
		made = append(made, operation{"add", path + "/command", append([]string{standby, "--"}, target.Command...)})
	}
	made = shapeEnvironment(made, path, target, h.environment(pod, from), directory)
	made = append(made, operation{"add", path + "/startupProbe", startupGate(target, directory)})
	mounts := []core.VolumeMount{
		{Name: controlVolume, MountPath: directory, SubPath: target.Name},
		{Name: storageVolume, MountPath: h.storage.BasePath, ReadOnly: true},
	}
	if from.sharedMemory != nil && !slices.ContainsFunc(target.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == memoryPath }) {
		mounts = append(mounts, core.VolumeMount{Name: memoryVolume, MountPath: memoryPath})
		*volumes = append(*volumes, memory(*from.sharedMemory))
	}
	return appendNew(made, path+"/volumeMounts", target.VolumeMounts, mounts, func(m core.VolumeMount) string { return m.Name })
}

func memory(size string) core.Volume {
	source := &core.EmptyDirVolumeSource{Medium: core.StorageMediumMemory}
	if size != "" {
		limit := resource.MustParse(size)
		source.SizeLimit = &limit
	}
	return core.Volume{Name: memoryVolume, VolumeSource: core.VolumeSource{EmptyDir: source}}
}

func (h *handler) environment(pod *core.Pod, from checkpoint) []core.EnvVar {
	directory := h.storage.BasePath + "/" + from.id + "/versions/" + from.version
	return []core.EnvVar{
		{Name: "DYN_SNAPSHOT_RESTORE_STANDBY", Value: "1"},
		{Name: "DYN_SNAPSHOT_CHECKPOINT_ID", Value: from.id},
		{Name: "DYN_SNAPSHOT_RESTART_POLICY", Value: first(string(pod.Spec.RestartPolicy), "Always")},
		{Name: "DYN_CHECKPOINT_STORAGE_TYPE", Value: "pvc"},
		{Name: "DYN_CHECKPOINT_LOCATION", Value: directory},
		{Name: "DYN_CHECKPOINT_PATH", Value: directory},
		{Name: "DYN_CHECKPOINT_HASH", Value: from.id},
	}
}

func shapeEnvironment(made []operation, path string, target *core.Container, wanted []core.EnvVar, directory string) []operation {
	present := make(map[string]int, len(target.Env))
	for i, entry := range target.Env {
		present[entry.Name] = i
	}
	added := make([]core.EnvVar, 0, len(wanted)+1)
	if _, there := present["DYN_SNAPSHOT_CONTROL_DIR"]; !there {
		added = append(added, core.EnvVar{Name: "DYN_SNAPSHOT_CONTROL_DIR", Value: directory})
	}
	for _, entry := range wanted {
		if at, there := present[entry.Name]; !there {
			added = append(added, entry)
		} else if target.Env[at].Value != entry.Value || target.Env[at].ValueFrom != nil {
			made = append(made, operation{"replace", path + "/env/" + strconv.Itoa(at), entry})
		}
	}
	return appendNew(made, path+"/env", target.Env, added, func(e core.EnvVar) string { return e.Name })
}

// startupGate keeps the other probes off while a restore or a cold start runs.
func startupGate(target *core.Container, directory string) *core.Probe {
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
	gate.FailureThreshold = max(gateFailures, own.InitialDelaySeconds+period*failures)
	return gate
}

func shapeSpec(made []operation, pod *core.Pod, from checkpoint, volumes []core.Volume) []operation {
	made = appendNew(made, "/spec/volumes", pod.Spec.Volumes, volumes, func(v core.Volume) string { return v.Name })
	made = appendNew(made, "/spec/imagePullSecrets", pod.Spec.ImagePullSecrets, from.pullSecrets,
		func(s core.LocalObjectReference) string { return s.Name })
	local := profile
	seccomp := &core.SeccompProfile{Type: core.SeccompProfileTypeLocalhost, LocalhostProfile: &local}
	if pod.Spec.SecurityContext == nil {
		made = append(made, operation{"add", "/spec/securityContext", core.PodSecurityContext{SeccompProfile: seccomp}})
	} else {
		made = append(made, operation{"add", "/spec/securityContext/seccompProfile", seccomp})
	}
	return append(made, operation{"add", "/spec/affinity", onReadyNodes(pod.Spec.Affinity)})
}

// onReadyNodes adds to every term that the node's agent is ready.
func onReadyNodes(present *core.Affinity) *core.Affinity {
	wish := core.NodeSelectorRequirement{Key: labelNode, Operator: core.NodeSelectorOpIn, Values: []string{"ready"}}
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

// appendNew adds what the list does not hold under the same name.
func appendNew[T any](made []operation, path string, present, wanted []T, name func(T) string) []operation {
	var added []T
	for _, one := range wanted {
		same := func(other T) bool { return name(other) == name(one) }
		if !slices.ContainsFunc(present, same) && !slices.ContainsFunc(added, same) {
			added = append(added, one)
		}
	}
	if len(added) == 0 {
		return made
	}
	if len(present) == 0 {
		return append(made, operation{"add", path, added})
	}
	for _, one := range added {
		made = append(made, operation{"add", path + "/-", one})
	}
	return made
}
