package main

import (
	"encoding/json"
	"errors"
	"os"

	core "k8s.io/api/core/v1"
)

// checkpoint is what admission needs of a DynamoCheckpoint.
type checkpoint struct {
	name         string
	phase        string
	deleting     bool
	id           string
	version      string
	image        string
	sharedMemory *string
	pullSecrets  []core.LocalObjectReference
}

// object is a DynamoCheckpoint as stored, as far as it is read.
type object struct {
	Metadata struct {
		Name, Namespace, DeletionTimestamp string
		Labels, Annotations                map[string]string
	}
	Spec struct {
		Job struct {
			TargetContainerName string
			SharedMemory        struct {
				Disabled bool
				Size     string
			}
			PodTemplateSpec core.PodTemplateSpec
		}
	}
	Status struct{ Phase, CheckpointID, IdentityHash string }
}

// storage is the checkpoint volume, mounted by the pods themselves.
type storage struct {
	PVCName  string `json:"pvcName"`
	BasePath string `json:"basePath"`
}

func readStorage(path string) (storage, error) {
	var read storage
	data, err := os.ReadFile(path)
	if err != nil {
		return read, err
	}
	return read, json.Unmarshal(data, &read)
}

// readCheckpoints gives the file's checkpoints by namespace/name.
func readCheckpoints(path string) (map[string]checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []object
	if err := json.Unmarshal(data, &objects); err != nil {
		return nil, err
	}
	found := make(map[string]checkpoint, len(objects))
	for _, one := range objects {
		read, err := one.checkpoint()
		if err != nil {
			return nil, err
		}
		found[one.Metadata.Namespace+"/"+one.Metadata.Name] = read
	}
	return found, nil
}

func (o object) checkpoint() (checkpoint, error) {
	target := first(o.Spec.Job.TargetContainerName, "main")
	captured := container(o.Spec.Job.PodTemplateSpec.Spec.Containers, target)
	if captured < 0 {
		return checkpoint{}, errors.New("the template lacks its target container " + target)
	}
	read := checkpoint{
		name:        o.Metadata.Name,
		phase:       o.Status.Phase,
		deleting:    o.Metadata.DeletionTimestamp != "",
		id:          first(o.Status.CheckpointID, o.Status.IdentityHash, o.Metadata.Labels[labelID]),
		version:     first(o.Metadata.Annotations[annVersion], "1"),
		image:       o.Spec.Job.PodTemplateSpec.Spec.Containers[captured].Image,
		pullSecrets: o.Spec.Job.PodTemplateSpec.Spec.ImagePullSecrets,
	}
	if memory := o.Spec.Job.SharedMemory; !memory.Disabled {
		size := first(memory.Size, "8Gi")
		read.sharedMemory = &size
	}
	return read, nil
}

// first is the first of the words that is not empty.
func first(words ...string) string {
	for _, word := range words {
		if word != "" {
			return word
		}
	}
	return ""
}

// container is the index of the named container, or -1.
func container(containers []core.Container, name string) int {
	for i := range containers {
		if containers[i].Name == name {
			return i
		}
	}
	return -1
}
