package main

import (
	"bytes"
	"fmt"
	"time"
)

// placeholder is the uid in the body file: the same length as every uid, and nowhere else in the review.
const placeholder = "00000000-0000-4000-8000-000000000000"

// sender carries one review to the server and its answer back. The answer is valid until the next call.
type sender interface {
	send(body []byte) ([]byte, error)
	close()
}

// worker is one connection's closed loop.
type worker struct {
	sender    sender
	answers   *verifier
	body      []byte
	uid       []byte // a slice of body: writing here changes the request
	sequence  uint64
	latencies []time.Duration
}

func newWorker(given options, index int, answers *verifier) (*worker, error) {
	if bytes.Count(given.body, []byte(placeholder)) != 1 {
		return nil, fmt.Errorf("the body must hold the uid %s exactly once", placeholder)
	}
	body := bytes.Clone(given.body)
	at := bytes.Index(body, []byte(placeholder))
	made := &worker{answers: answers, body: body, uid: body[at : at+len(placeholder)], sequence: uint64(index) << 32}
	var err error
	if given.protocol == "h2" {
		made.sender, err = newSecond(given)
	} else {
		made.sender, err = newFirst(given)
	}
	return made, err
}

func (w *worker) until(deadline time.Time, limit int) error {
	for done := 0; done < limit; done++ {
		start := time.Now()
		if start.After(deadline) {
			return nil
		}
		w.renew()
		answer, err := w.sender.send(w.body)
		if err != nil {
			return err
		}
		w.latencies = append(w.latencies, time.Since(start))
		if err := w.answers.check(answer, w.uid); err != nil {
			return err
		}
	}
	return nil
}

// renew writes the next uid into the body; its last twelve digits count.
func (w *worker) renew() {
	const digits = "0123456789abcdef"
	w.sequence++
	value := w.sequence
	for i := len(w.uid) - 1; i >= len(w.uid)-12; i-- {
		w.uid[i] = digits[value&15]
		value >>= 4
	}
}
