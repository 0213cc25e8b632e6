package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigs "sigs.k8s.io/json"

	"dynamo-snapshot.invalid/benchmarks/peers/restore"
)

// bodyLimit is twice what the API server accepts for an object, for the review holds it and old versions of it.
const bodyLimit = 7 << 20

type unmarshal func(data []byte, into any) error

var decoders = map[string]unmarshal{"std": json.Unmarshal, "sigs": sigs.UnmarshalCaseSensitivePreserveInts}

type handler struct {
	decode      unmarshal
	checkpoints map[string]restore.Checkpoint
	storage     restore.Storage
}

func newHandler(objects, storageFile, decoder string) (*handler, error) {
	decode, known := decoders[decoder]
	if !known {
		return nil, fmt.Errorf("-json must be std or sigs, not %q", decoder)
	}
	found, err := restore.ReadCheckpoints(objects)
	if err != nil {
		return nil, fmt.Errorf("-checkpoints: %w", err)
	}
	place, err := restore.ReadStorage(storageFile)
	if err != nil {
		return nil, fmt.Errorf("-storage: %w", err)
	}
	return &handler{decode: decode, checkpoints: found, storage: place}, nil
}

func (h *handler) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(out, in.Body, bodyLimit))
	if err != nil {
		http.Error(out, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var review admission.AdmissionReview
	if err := h.decode(body, &review); err != nil || review.Request == nil {
		http.Error(out, "the body is no AdmissionReview", http.StatusBadRequest)
		return
	}
	answer := admission.AdmissionReview{TypeMeta: review.TypeMeta, Response: h.answer(review.Request)}
	written, err := json.Marshal(answer)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "application/json")
	out.Header().Set("Content-Length", strconv.Itoa(len(written)))
	out.Write(written)
}

func (h *handler) answer(request *admission.AdmissionRequest) *admission.AdmissionResponse {
	var pod core.Pod
	if err := h.decode(request.Object.Raw, &pod); err != nil {
		return &admission.AdmissionResponse{UID: request.UID, Result: &meta.Status{Code: http.StatusBadRequest, Message: err.Error()}}
	}
	response := &admission.AdmissionResponse{UID: request.UID, Allowed: true}
	code, operations := h.decide(request, &pod)
	message := "DynamoCheckpoint " + pod.Annotations[restore.AnnName] + ": " + code
	response.Result = &meta.Status{Message: message}
	response.AuditAnnotations = map[string]string{"admission": code}
	if len(operations) == 0 {
		return response
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		response.Result.Message = err.Error()
		return response
	}
	kind := admission.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response
}
