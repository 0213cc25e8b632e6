// Command loadgen sends one AdmissionReview over and over, in a closed loop, and checks every answer.
//
// Each connection has one request under way at a time. Every request carries a uid of its own; every answer must
// quote it, must be allowed, and must hold the patch that the first answer held. Latencies are kept whole, so the
// percentiles are of all requests. The result is one JSON object on stdout.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

type options struct {
	target      *url.URL
	roots       *x509.CertPool
	body        []byte
	protocol    string
	connections int
	warmup      time.Duration
	duration    time.Duration
	limit       int
}

// outcome is what a run measured; times are in microseconds unless named otherwise.
type outcome struct {
	Protocol        string  `json:"protocol"`
	Connections     int     `json:"connections"`
	Requests        int     `json:"requests"`
	Sent            uint64  `json:"sent"`
	Seconds         float64 `json:"seconds"`
	Rate            float64 `json:"requests_per_second"`
	P50             float64 `json:"p50_us"`
	P90             float64 `json:"p90_us"`
	P99             float64 `json:"p99_us"`
	P999            float64 `json:"p999_us"`
	Max             float64 `json:"max_us"`
	GeneratorCPU    float64 `json:"generator_cpu"`
	RequestBytes    int     `json:"request_bytes"`
	ResponseBytes   int     `json:"response_bytes"`
	PatchOperations int     `json:"patch_operations"`
	PatchSHA256     string  `json:"patch_sha256"`
	Patch           string  `json:"patch"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func run() error {
	given, err := parse()
	if err != nil {
		return err
	}
	result, err := measure(given)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func parse() (options, error) {
	var given options
	target := flag.String("url", "", "where to send the review, https")
	roots := flag.String("ca", "", "PEM file of the authority that signed the server's certificate")
	body := flag.String("body", "", "file with the AdmissionReview; its uid must be "+placeholder)
	flag.StringVar(&given.protocol, "protocol", "h1", "h1 or h2")
	flag.IntVar(&given.connections, "connections", 1, "connections, each with one request under way")
	flag.DurationVar(&given.warmup, "warmup", time.Second, "how long to send before measuring")
	flag.DurationVar(&given.duration, "duration", 5*time.Second, "how long to measure")
	flag.IntVar(&given.limit, "limit", 1_000_000, "most requests to measure")
	flag.Parse()
	var err error
	if given.target, err = url.Parse(*target); err != nil || given.target.Scheme != "https" {
		return given, fmt.Errorf("-url must be an https address, not %q", *target)
	}
	if given.body, err = os.ReadFile(*body); err != nil {
		return given, fmt.Errorf("-body: %w", err)
	}
	authority, err := os.ReadFile(*roots)
	if err != nil {
		return given, fmt.Errorf("-ca: %w", err)
	}
	given.roots = x509.NewCertPool()
	if !given.roots.AppendCertsFromPEM(authority) {
		return given, errors.New("-ca holds no certificate")
	}
	if given.protocol != "h1" && given.protocol != "h2" {
		return given, fmt.Errorf("-protocol must be h1 or h2, not %q", given.protocol)
	}
	if given.connections < 1 || given.connections > 256 {
		return given, errors.New("-connections must lie between 1 and 256")
	}
	return given, nil
}

func (o options) tls() *tls.Config {
	protocol := map[string]string{"h1": "http/1.1", "h2": "h2"}[o.protocol]
	return &tls.Config{RootCAs: o.roots, ServerName: o.target.Hostname(), NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12}
}

// measure warms up, then measures all connections over the same span of time.
func measure(given options) (outcome, error) {
	workers := make([]*worker, given.connections)
	answers := &verifier{}
	for i := range workers {
		made, err := newWorker(given, i, answers)
		if err != nil {
			return outcome{}, err
		}
		defer made.sender.close()
		workers[i] = made
	}
	if err := together(workers, given.warmup, given.limit); err != nil {
		return outcome{}, err
	}
	for _, one := range workers {
		one.latencies = make([]time.Duration, 0, 1<<16)
	}
	before, start := cpuTime(), time.Now()
	err := together(workers, given.duration, given.limit)
	elapsed := time.Since(start)
	if err != nil {
		return outcome{}, err
	}
	return summarise(given, workers, answers, elapsed, (cpuTime() - before)), nil
}

func together(workers []*worker, span time.Duration, limit int) error {
	var group sync.WaitGroup
	failures := make([]error, len(workers))
	deadline := time.Now().Add(span)
	for i, one := range workers {
		group.Go(func() { failures[i] = one.until(deadline, limit/len(workers)) })
	}
	group.Wait()
	return errors.Join(failures...)
}

func summarise(given options, workers []*worker, answers *verifier, elapsed, busy time.Duration) outcome {
	var all []time.Duration
	var sent uint64
	for _, one := range workers {
		all = append(all, one.latencies...)
		sent += one.sequence & 0xffffffff
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[min(len(all)-1, int(share*float64(len(all))))].Nanoseconds()) / 1e3
	}
	return outcome{
		Protocol: given.protocol, Connections: given.connections,
		Requests: len(all), Sent: sent, Seconds: elapsed.Seconds(), Rate: float64(len(all)) / elapsed.Seconds(),
		P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1),
		GeneratorCPU: busy.Seconds() / elapsed.Seconds(),
		RequestBytes: len(given.body), ResponseBytes: answers.size,
		PatchOperations: answers.operations, PatchSHA256: answers.digest, Patch: answers.patch,
	}
}

// cpuTime is what this process has used so far, in user and kernel.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
