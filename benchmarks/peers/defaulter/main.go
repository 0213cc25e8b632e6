// Command defaulter is the peer of our webhook as most projects would write it: a defaulter of controller-runtime.
//
// The library decodes the review and the pod, calls Default, writes the pod as JSON again and makes the patch by
// comparing; its server listens, with TLS and metrics. The decision is the same, from a map read from a file.
// It prints its address on stdout.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const path = "/mutate-core-v1-pod-checkpoint-restore"

func main() {
	certificate := flag.String("cert", "", "PEM file of the server's certificate")
	key := flag.String("key", "", "PEM file of its key, in the same folder")
	objects := flag.String("checkpoints", "", "JSON file: a list of DynamoCheckpoints")
	storage := flag.String("storage", "", "JSON file: pvcName, basePath")
	flag.Parse()
	if err := serve(*certificate, *key, *objects, *storage); err != nil {
		log.Fatal(err)
	}
}

func serve(certificate, key, objects, storage string) error {
	crlog.SetLogger(logr.Discard())
	restorer, err := newRestorer(objects, storage)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := core.AddToScheme(scheme); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{
		Host: "127.0.0.1", Port: port, CertDir: filepath.Dir(certificate),
		CertName: filepath.Base(certificate), KeyName: filepath.Base(key),
	})
	server.Register(path, admission.WithDefaulter[*core.Pod](scheme, restorer))
	fmt.Printf("https://127.0.0.1:%d%s\n", port, path)
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return server.Start(stopped)
}

// freePort is one that nobody listens on now: the library's server tells nobody which it got.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
