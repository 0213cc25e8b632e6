package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	admission "k8s.io/api/admission/v1"
)

// mostKnown bounds the checked answers that are remembered: a server that orders its operations anew each time has
// more than are worth comparing with, and each of its answers is read whole.
const mostKnown = 16

// verifier checks answers. One that equals a checked answer in every byte but the uid needs no second look.
type verifier struct {
	lock       sync.RWMutex
	known      [][]byte // checked answers, with the placeholder for the uid
	size       int
	operations int
	digest     string
	patch      string
}

func (v *verifier) check(answer, uid []byte) error {
	at := bytes.Index(answer, uid)
	if at < 0 {
		return fmt.Errorf("the answer does not quote the uid %s: %.300s", uid, answer)
	}
	v.lock.RLock()
	seen := v.isKnown(answer, at)
	v.lock.RUnlock()
	if seen {
		return nil
	}
	return v.study(answer, at, string(uid))
}

func (v *verifier) isKnown(answer []byte, at int) bool {
	after := at + len(placeholder)
	for _, known := range v.known {
		if len(known) == len(answer) && bytes.Equal(known[:at], answer[:at]) && bytes.Equal(known[after:], answer[after:]) {
			return true
		}
	}
	return false
}

// study reads an answer whole, and compares its operations with those of the first.
func (v *verifier) study(answer []byte, at int, uid string) error {
	var review admission.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil {
		return fmt.Errorf("the answer is no AdmissionReview: %w", err)
	}
	response := review.Response
	if response == nil || string(response.UID) != uid || !response.Allowed {
		return fmt.Errorf("the answer is not an allowed response to %s: %.300s", uid, answer)
	}
	if response.PatchType == nil || *response.PatchType != admission.PatchTypeJSONPatch {
		return errors.New("the answer has no JSON patch")
	}
	digest, operations, err := normalised(response.Patch)
	if err != nil {
		return err
	}
	v.lock.Lock()
	defer v.lock.Unlock()
	if v.digest == "" {
		v.digest, v.operations, v.size, v.patch = digest, operations, len(answer), string(response.Patch)
	}
	if digest != v.digest {
		return fmt.Errorf("the patch changed between answers: %s", response.Patch)
	}
	if len(v.known) < mostKnown {
		template := bytes.Clone(answer)
		copy(template[at:], placeholder)
		v.known = append(v.known, template)
	}
	return nil
}

// normalised is the SHA-256 of a patch's operations, each written with sorted keys and no white space, in the order of
// their text: libraries that compare two objects walk maps, and so have no order of their own. Whether the patch makes
// the right pod is for the caller to see; here it only must not change.
func normalised(patch []byte) (digest string, operations int, err error) {
	var parsed []map[string]any
	if err := json.Unmarshal(patch, &parsed); err != nil {
		return "", 0, fmt.Errorf("the patch is no list of operations: %w", err)
	}
	written := make([]string, len(parsed))
	for i, operation := range parsed {
		text, err := json.Marshal(operation)
		if err != nil {
			return "", 0, err
		}
		written[i] = string(text)
	}
	slices.Sort(written)
	sum := sha256.Sum256([]byte(strings.Join(written, "\n")))
	return hex.EncodeToString(sum[:]), len(parsed), nil
}
