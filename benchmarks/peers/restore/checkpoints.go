package restore

import (
	"encoding/json"
	"errors"
	"os"

	core "k8s.io/api/core/v1"
)

// Checkpoint is what admission needs of a DynamoCheckpoint.
type Checkpoint struct {
	Name         string
	Phase        string
	Deleting     bool
	ID           string
	Version      string
	Image        string
	SharedMemory *string
	PullSecrets  []core.LocalObjectReference
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

// Storage is the checkpoint volume, mounted by the pods themselves.
type Storage struct {
	PVCName  string `json:"pvcName"`
	BasePath string `json:"basePath"`
}

// ReadStorage reads it from a JSON file.
func ReadStorage(path string) (Storage, error) {
	var read Storage
	data, err := os.ReadFile(path)
	if err != nil {
		return read, err
	}
	return read, json.Unmarshal(data, &read)
}

// ReadCheckpoints gives the file's checkpoints by namespace/name.
func ReadCheckpoints(path string) (map[string]Checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []object
	if err := json.Unmarshal(data, &objects); err != nil {
		return nil, err
	}
	found := make(map[string]Checkpoint, len(objects))
	for _, one := range objects {
		read, err := one.checkpoint()
		if err != nil {
			return nil, err
		}
		found[one.Metadata.Namespace+"/"+one.Metadata.Name] = read
	}
	return found, nil
}

func (o object) checkpoint() (Checkpoint, error) {
	target := First(o.Spec.Job.TargetContainerName, "main")
	captured := Container(o.Spec.Job.PodTemplateSpec.Spec.Containers, target)
	if captured < 0 {
		return Checkpoint{}, errors.New("the template lacks its target container " + target)
	}
	read := Checkpoint{
		Name:        o.Metadata.Name,
		Phase:       o.Status.Phase,
		Deleting:    o.Metadata.DeletionTimestamp != "",
		ID:          First(o.Status.CheckpointID, o.Status.IdentityHash, o.Metadata.Labels[LabelID]),
		Version:     First(o.Metadata.Annotations[AnnVersion], "1"),
		Image:       o.Spec.Job.PodTemplateSpec.Spec.Containers[captured].Image,
		PullSecrets: o.Spec.Job.PodTemplateSpec.Spec.ImagePullSecrets,
	}
	if memory := o.Spec.Job.SharedMemory; !memory.Disabled {
		size := First(memory.Size, "8Gi")
		read.SharedMemory = &size
	}
	return read, nil
}

// First is the first of the words that is not empty.
func First(words ...string) string {
	for _, word := range words {
		if word != "" {
			return word
		}
	}
	return ""
}

// Container is the index of the named container, or -1.
func Container(containers []core.Container, name string) int {
	for i := range containers {
		if containers[i].Name == name {
			return i
		}
	}
	return -1
}
