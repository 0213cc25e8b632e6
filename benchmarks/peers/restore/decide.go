package restore

import (
	"fmt"
	"strings"

	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"
)

// Shaped is the code of a pod that is to be restored.
const Shaped = "restore-shaped"

// Decide answers as our webhook does for pods that name their checkpoint: a code, and what to restore where.
func Decide(operation admission.Operation, namespace string, pod *core.Pod, checkpoints map[string]Checkpoint) (string, Checkpoint, []int) {
	var none Checkpoint
	if operation != admission.Create {
		return "not-a-create", none, nil
	}
	if pod.Labels[LabelID] != "" || pod.Labels[LabelSource] != "" {
		return "already-shaped", none, nil
	}
	if pod.Labels[LabelRestore] != "enabled" {
		return "not-opted-in", none, nil
	}
	name := First(pod.Annotations[AnnName], pod.Annotations[AnnFrom])
	if name == "" {
		return "checkpoint-name-missing", none, nil
	}
	found, known := checkpoints[First(pod.Namespace, namespace)+"/"+name]
	switch {
	case !known:
		return "checkpoint-not-found", none, nil
	case found.Deleting:
		return "checkpoint-deleting", none, nil
	case found.Phase != "Ready":
		return "checkpoint-not-ready", none, nil
	case found.ID == "":
		return "checkpoint-id-unavailable", none, nil
	}
	targets, err := targetContainers(pod)
	if err != nil {
		return "targets-invalid", none, nil
	}
	for _, target := range targets {
		if pod.Spec.Containers[target].Image != found.Image {
			return "image-mismatch", none, nil
		}
	}
	return Shaped, found, targets
}

// Silent tells codes of pods that are left as they are.
func Silent(code string) bool {
	return code == "not-a-create" || code == "already-shaped" || code == "not-opted-in"
}

// targetContainers are the indexes of the containers to restore.
func targetContainers(pod *core.Pod) ([]int, error) {
	names := []string{"main"}
	said, told := pod.Annotations[AnnTargets]
	if told {
		names = strings.Split(said, ",")
	} else if Container(pod.Spec.Containers, "main") < 0 && len(pod.Spec.Containers) == 1 {
		names = []string{pod.Spec.Containers[0].Name}
	}
	var found []int
	for _, name := range names {
		index := Container(pod.Spec.Containers, strings.TrimSpace(name))
		if index < 0 || len(name) > MaxContainerName {
			return nil, fmt.Errorf("container %q", name)
		}
		found = append(found, index)
	}
	return found, nil
}
