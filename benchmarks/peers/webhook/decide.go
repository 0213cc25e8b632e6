package main

import (
	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"

	"dynamo-snapshot.invalid/benchmarks/peers/restore"
)

// decide answers with the operations that make the pod's new shape.
func (h *handler) decide(request *admission.AdmissionRequest, pod *core.Pod) (string, []operation) {
	code, found, targets := restore.Decide(request.Operation, request.Namespace, pod, h.checkpoints)
	switch {
	case code == restore.Shaped:
		return code, h.shape(pod, found, targets)
	case restore.Silent(code):
		return code, nil
	}
	return code, setAll(nil, "/metadata/annotations", pod.Annotations, [][2]string{{restore.AnnAdmission, code}})
}
