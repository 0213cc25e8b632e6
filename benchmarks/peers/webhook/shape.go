package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"

	"dynamo-snapshot.invalid/benchmarks/peers/restore"
)

// operation is one step of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// shape makes a restoring pod of the one admitted.
func (h *handler) shape(pod *core.Pod, from restore.Checkpoint, targets []int) []operation {
	made := shapeMetadata(pod, from, h.storage, targets)
	volumes := restore.Volumes(h.storage)
	for _, index := range targets {
		made = h.shapeContainer(made, pod, index, from, &volumes)
	}
	return shapeSpec(made, pod, from, volumes)
}

func shapeMetadata(pod *core.Pod, from restore.Checkpoint, place restore.Storage, targets []int) []operation {
	var made []operation
	if _, there := pod.Labels[restore.LabelSource]; there {
		made = append(made, operation{"remove", "/metadata/labels/" + pointer.Replace(restore.LabelSource), nil})
	}
	labels := [][2]string{{restore.LabelTarget, "true"}, {restore.LabelID, from.ID}}
	made = setAll(made, "/metadata/labels", pod.Labels, labels)
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if restore.Stale(key) {
			made = append(made, operation{"remove", "/metadata/annotations/" + pointer.Replace(key), nil})
		}
	}
	return setAll(made, "/metadata/annotations", pod.Annotations, restore.Annotations(pod, from, place, targets))
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

func (h *handler) shapeContainer(made []operation, pod *core.Pod, index int, from restore.Checkpoint, volumes *[]core.Volume) []operation {
	target := &pod.Spec.Containers[index]
	path := "/spec/containers/" + strconv.Itoa(index)
	directory := restore.ControlDirectory(target)
	if len(target.Command) == 0 {
		made = append(made, operation{"add", path + "/command", []string{restore.Standby, "--image-entrypoint", "--"}})
	} else if target.Command[0] != restore.Standby {
		made = append(made, operation{"add", path + "/command", append([]string{restore.Standby, "--"}, target.Command...)})
	}
	made = shapeEnvironment(made, path, target, restore.Environment(pod, from, h.storage), directory)
	made = append(made, operation{"add", path + "/startupProbe", restore.StartupGate(target, directory)})
	mounts := []core.VolumeMount{
		{Name: restore.ControlVolume, MountPath: directory, SubPath: target.Name},
		{Name: restore.StorageVolume, MountPath: h.storage.BasePath, ReadOnly: true},
	}
	if from.SharedMemory != nil && !slices.ContainsFunc(target.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == restore.MemoryPath }) {
		mounts = append(mounts, core.VolumeMount{Name: restore.MemoryVolume, MountPath: restore.MemoryPath})
		*volumes = append(*volumes, restore.Memory(*from.SharedMemory))
	}
	return appendNew(made, path+"/volumeMounts", target.VolumeMounts, mounts, func(m core.VolumeMount) string { return m.Name })
}

func shapeEnvironment(made []operation, path string, target *core.Container, wanted []core.EnvVar, directory string) []operation {
	present := make(map[string]int, len(target.Env))
	for i, entry := range target.Env {
		present[entry.Name] = i
	}
	added := make([]core.EnvVar, 0, len(wanted)+1)
	if _, there := present[restore.ControlVariable]; !there {
		added = append(added, core.EnvVar{Name: restore.ControlVariable, Value: directory})
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

func shapeSpec(made []operation, pod *core.Pod, from restore.Checkpoint, volumes []core.Volume) []operation {
	made = appendNew(made, "/spec/volumes", pod.Spec.Volumes, volumes, func(v core.Volume) string { return v.Name })
	made = appendNew(made, "/spec/imagePullSecrets", pod.Spec.ImagePullSecrets, from.PullSecrets,
		func(s core.LocalObjectReference) string { return s.Name })
	if pod.Spec.SecurityContext == nil {
		made = append(made, operation{"add", "/spec/securityContext", core.PodSecurityContext{SeccompProfile: restore.Seccomp()}})
	} else {
		made = append(made, operation{"add", "/spec/securityContext/seccompProfile", restore.Seccomp()})
	}
	return append(made, operation{"add", "/spec/affinity", restore.OnReadyNodes(pod.Spec.Affinity)})
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
