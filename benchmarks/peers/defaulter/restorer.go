package main

import (
	"context"
	"fmt"
	"slices"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"dynamo-snapshot.invalid/benchmarks/peers/restore"
)

// restorer changes pods that are to be restored.
type restorer struct {
	checkpoints map[string]restore.Checkpoint
	storage     restore.Storage
}

var _ admission.Defaulter[*core.Pod] = &restorer{}

func newRestorer(objects, storageFile string) (*restorer, error) {
	found, err := restore.ReadCheckpoints(objects)
	if err != nil {
		return nil, fmt.Errorf("-checkpoints: %w", err)
	}
	place, err := restore.ReadStorage(storageFile)
	if err != nil {
		return nil, fmt.Errorf("-storage: %w", err)
	}
	return &restorer{checkpoints: found, storage: place}, nil
}

// Default makes of a pod that names its checkpoint one that is restored.
func (r *restorer) Default(ctx context.Context, pod *core.Pod) error {
	request, err := admission.RequestFromContext(ctx)
	if err != nil {
		return err
	}
	code, found, targets := restore.Decide(request.Operation, request.Namespace, pod, r.checkpoints)
	if restore.Silent(code) {
		return nil
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[restore.AnnAdmission] = code
	if code == restore.Shaped {
		r.shape(pod, found, targets)
	}
	return nil
}

func (r *restorer) shape(pod *core.Pod, from restore.Checkpoint, targets []int) {
	delete(pod.Labels, restore.LabelSource)
	pod.Labels[restore.LabelTarget], pod.Labels[restore.LabelID] = "true", from.ID
	for key := range pod.Annotations {
		if restore.Stale(key) {
			delete(pod.Annotations, key)
		}
	}
	for _, pair := range restore.Annotations(pod, from, r.storage, targets) {
		pod.Annotations[pair[0]] = pair[1]
	}
	volumes := restore.Volumes(r.storage)
	for _, index := range targets {
		r.shapeContainer(pod, index, from, &volumes)
	}
	pod.Spec.Volumes = withNew(pod.Spec.Volumes, volumes, func(v core.Volume) string { return v.Name })
	pod.Spec.ImagePullSecrets = withNew(pod.Spec.ImagePullSecrets, from.PullSecrets,
		func(s core.LocalObjectReference) string { return s.Name })
	if pod.Spec.SecurityContext == nil {
		pod.Spec.SecurityContext = &core.PodSecurityContext{}
	}
	pod.Spec.SecurityContext.SeccompProfile = restore.Seccomp()
	pod.Spec.Affinity = restore.OnReadyNodes(pod.Spec.Affinity)
}

func (r *restorer) shapeContainer(pod *core.Pod, index int, from restore.Checkpoint, volumes *[]core.Volume) {
	target := &pod.Spec.Containers[index]
	directory := restore.ControlDirectory(target)
	if len(target.Command) == 0 {
		target.Command = []string{restore.Standby, "--image-entrypoint", "--"}
	} else if target.Command[0] != restore.Standby {
		target.Command = append([]string{restore.Standby, "--"}, target.Command...)
	}
	target.Env = withEnvironment(target.Env, restore.Environment(pod, from, r.storage), directory)
	target.StartupProbe = restore.StartupGate(target, directory)
	mounts := []core.VolumeMount{
		{Name: restore.ControlVolume, MountPath: directory, SubPath: target.Name},
		{Name: restore.StorageVolume, MountPath: r.storage.BasePath, ReadOnly: true},
	}
	if from.SharedMemory != nil && !slices.ContainsFunc(target.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == restore.MemoryPath }) {
		mounts = append(mounts, core.VolumeMount{Name: restore.MemoryVolume, MountPath: restore.MemoryPath})
		*volumes = append(*volumes, restore.Memory(*from.SharedMemory))
	}
	target.VolumeMounts = withNew(target.VolumeMounts, mounts, func(m core.VolumeMount) string { return m.Name })
}

func withEnvironment(present, wanted []core.EnvVar, directory string) []core.EnvVar {
	at := func(name string) int {
		return slices.IndexFunc(present, func(entry core.EnvVar) bool { return entry.Name == name })
	}
	if at(restore.ControlVariable) < 0 {
		present = append(present, core.EnvVar{Name: restore.ControlVariable, Value: directory})
	}
	for _, entry := range wanted {
		if index := at(entry.Name); index >= 0 {
			present[index] = entry
		} else {
			present = append(present, entry)
		}
	}
	return present
}

// withNew is the list with what it does not hold under the same name.
func withNew[T any](present, wanted []T, name func(T) string) []T {
	for _, one := range wanted {
		if !slices.ContainsFunc(present, func(other T) bool { return name(other) == name(one) }) {
			present = append(present, one)
		}
	}
	return present
}
