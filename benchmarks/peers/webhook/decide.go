package main

import (
	"fmt"
	"strings"

	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"
)

// decide answers as our webhook does for pods that name their checkpoint.
func (h *handler) decide(request *admission.AdmissionRequest, pod *core.Pod) (string, []operation) {
	if request.Operation != admission.Create {
		return "not-a-create", nil
	}
	if pod.Labels[labelID] != "" || pod.Labels[labelSource] != "" {
		return "already-shaped", nil
	}
	if pod.Labels[labelRestore] != "enabled" {
		return "not-opted-in", nil
	}
	name := first(pod.Annotations[annName], pod.Annotations[annFrom])
	if name == "" {
		return marked(pod, "checkpoint-name-missing")
	}
	found, known := h.checkpoints[first(pod.Namespace, request.Namespace)+"/"+name]
	switch {
	case !known:
		return marked(pod, "checkpoint-not-found")
	case found.deleting:
		return marked(pod, "checkpoint-deleting")
	case found.phase != "Ready":
		return marked(pod, "checkpoint-not-ready")
	case found.id == "":
		return marked(pod, "checkpoint-id-unavailable")
	}
	targets, err := targetContainers(pod)
	if err != nil {
		return marked(pod, "targets-invalid")
	}
	for _, target := range targets {
		if pod.Spec.Containers[target].Image != found.image {
			return marked(pod, "image-mismatch")
		}
	}
	return "restore-shaped", h.shape(pod, found, targets)
}

// marked leaves the pod as it is but for the reason.
func marked(pod *core.Pod, code string) (string, []operation) {
	return code, setAll(nil, "/metadata/annotations", pod.Annotations, [][2]string{{annAdmission, code}})
}

// targetContainers are the indexes of the containers to restore.
func targetContainers(pod *core.Pod) ([]int, error) {
	names := []string{"main"}
	said, told := pod.Annotations[annTargets]
	if told {
		names = strings.Split(said, ",")
	} else if container(pod.Spec.Containers, "main") < 0 && len(pod.Spec.Containers) == 1 {
		names = []string{pod.Spec.Containers[0].Name}
	}
	var found []int
	for _, name := range names {
		index := container(pod.Spec.Containers, strings.TrimSpace(name))
		if index < 0 || len(name) > maxContainerName {
			return nil, fmt.Errorf("container %q", name)
		}
		found = append(found, index)
	}
	return found, nil
}
