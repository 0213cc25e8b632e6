// Command steady sends one AdmissionReview at a steady rate to all replicas of a webhook, while its certificates change.
//
// Two loads run side by side: requests over connections that are kept, and requests that each pay a TLS handshake. The
// bundle of trusted authorities is read again whenever its file changes, and new clients replace the old ones then, as
// the API server does. A request that fails is counted and told, never repeated. The result is one JSON object.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const placeholder = "00000000-0000-4000-8000-000000000000"

// most of a load's failures that are told in words.
const mostTold = 10

// clients trust the bundle of one moment.
type clients struct {
	kept, fresh *http.Client
}

type trust struct {
	path    string
	current atomic.Pointer[clients]
	changes int
	last    []byte
}

// look reads the bundle, and makes new clients where it has changed.
func (t *trust) look(timeout time.Duration, connections int) error {
	content, err := os.ReadFile(t.path)
	if err != nil || bytes.Equal(content, t.last) {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return errors.New("the bundle holds no certificate")
	}
	made := func(keep bool) *http.Client {
		return &http.Client{Timeout: timeout, Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:   !keep,
			MaxIdleConnsPerHost: connections,
		}}
	}
	before := t.current.Swap(&clients{kept: made(true), fresh: made(false)})
	if before != nil {
		before.kept.CloseIdleConnections()
		t.changes++
	}
	t.last = content
	return nil
}

// load is what one kind of request met.
type load struct {
	lock      sync.Mutex
	latencies []time.Duration
	failed    int
	unshaped  int
	told      []string
}

type outcome struct {
	Requests int      `json:"requests"`
	Failed   int      `json:"failed"`
	Unshaped int      `json:"not_mutated"`
	Rate     float64  `json:"requests_per_second"`
	P50      float64  `json:"p50_ms"`
	P99      float64  `json:"p99_ms"`
	Max      float64  `json:"max_ms"`
	Told     []string `json:"failures"`
}

func (l *load) note(taken time.Duration, shaped bool, err error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.latencies = append(l.latencies, taken)
	switch {
	case err != nil:
		l.failed++
		if len(l.told) < mostTold {
			l.told = append(l.told, err.Error())
		}
	case !shaped:
		l.unshaped++
	}
}

func (l *load) outcome(span time.Duration) outcome {
	slices.Sort(l.latencies)
	at := func(share float64) float64 {
		if len(l.latencies) == 0 {
			return 0
		}
		return float64(l.latencies[min(len(l.latencies)-1, int(share*float64(len(l.latencies))))].Microseconds()) / 1e3
	}
	return outcome{
		Requests: len(l.latencies), Failed: l.failed, Unshaped: l.unshaped, Told: l.told,
		Rate: float64(len(l.latencies)) / span.Seconds(), P50: at(0.5), P99: at(0.99), Max: at(1),
	}
}

// pace sends at a steady rate until the deadline; one that falls behind catches up, so that the rate holds.
func pace(rate float64, share, of int, deadline time.Time, send func(number int)) {
	interval := time.Duration(float64(of) / rate * float64(time.Second))
	next := time.Now().Add(interval * time.Duration(share) / time.Duration(of))
	for number := share; next.Before(deadline); number += of {
		time.Sleep(time.Until(next))
		send(number)
		next = next.Add(interval)
	}
}

func ask(client *http.Client, target string, body []byte, number int) (shaped bool, err error) {
	uid := fmt.Sprintf("%s%012x", placeholder[:24], number)
	answer, err := client.Post(target, "application/json", bytes.NewReader(bytes.Replace(body, []byte(placeholder), []byte(uid), 1)))
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return false, err
	}
	var review struct {
		Response struct {
			UID     string `json:"uid"`
			Allowed bool   `json:"allowed"`
			Patch   string `json:"patch"`
		} `json:"response"`
	}
	if answer.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d: %.200s", answer.StatusCode, content)
	}
	if err := json.Unmarshal(content, &review); err != nil {
		return false, err
	}
	if review.Response.UID != uid || !review.Response.Allowed {
		return false, fmt.Errorf("not an allowed answer to %s: %.200s", uid, content)
	}
	return review.Response.Patch != "", nil
}

func main() {
	targets := flag.String("urls", "", "where to send the review, https, separated by commas")
	bundle := flag.String("ca", "", "PEM file of the authorities that are trusted now")
	file := flag.String("body", "", "file with the AdmissionReview; its uid must be "+placeholder)
	kept := flag.Float64("kept", 500, "requests a second over connections that are kept")
	fresh := flag.Float64("fresh", 50, "requests a second with a handshake each")
	workers := flag.Int("workers", 16, "most requests under way, of each kind")
	span := flag.Duration("duration", time.Minute, "how long")
	timeout := flag.Duration("timeout", 5*time.Second, "of a request")
	flag.Parse()
	body, err := os.ReadFile(*file)
	trusted := &trust{path: *bundle}
	if err = errors.Join(err, trusted.look(*timeout, *workers)); err != nil {
		fmt.Fprintln(os.Stderr, "steady:", err)
		os.Exit(1)
	}
	loads, group := map[string]*load{"kept": {}, "fresh": {}}, sync.WaitGroup{}
	urls, start := strings.Split(*targets, ","), time.Now()
	deadline := start.Add(*span)
	for name, rate := range map[string]float64{"kept": *kept, "fresh": *fresh} {
		for share := range *workers {
			group.Go(func() {
				pace(rate, share, *workers, deadline, func(number int) {
					client := trusted.current.Load().fresh
					if name == "kept" {
						client = trusted.current.Load().kept
					}
					began := time.Now()
					shaped, err := ask(client, urls[number/(*workers)%len(urls)], body, number)
					loads[name].note(time.Since(began), shaped, err)
				})
			})
		}
	}
	for time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
		_ = trusted.look(*timeout, *workers) // a file that is being replaced is read in the next round
	}
	group.Wait()
	elapsed := time.Since(start)
	told := map[string]any{"kept": loads["kept"].outcome(elapsed), "fresh": loads["fresh"].outcome(elapsed), "bundles": trusted.changes}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		os.Exit(1)
	}
}
