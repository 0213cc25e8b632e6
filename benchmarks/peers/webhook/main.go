// Command webhook is the peer of our webhook in Go: a minimal net/http handler that gives the same answers.
//
// It decodes the review and the pod into the types of k8s.io/api, looks the checkpoint up in a map read from a file,
// builds the JSON patch by hand, and answers; HTTP/1.1 and HTTP/2, over TLS. It prints its address on stdout.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"
)

const path = "/mutate-core-v1-pod-checkpoint-restore"

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	certificate := flag.String("cert", "", "PEM file of the server's certificate")
	key := flag.String("key", "", "PEM file of its key")
	objects := flag.String("checkpoints", "", "JSON file: a list of DynamoCheckpoints")
	storage := flag.String("storage", "", "JSON file: type, pvcName, basePath")
	decoder := flag.String("json", "std", "std (encoding/json) or sigs (sigs.k8s.io/json)")
	flag.Parse()
	if err := serve(*listen, *certificate, *key, *objects, *storage, *decoder); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, certificate, key, objects, storage, decoder string) error {
	admit, err := newHandler(objects, storage, decoder)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+path, admit)
	fmt.Printf("https://%s%s\n", listener.Addr(), path)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ServeTLS(listener, certificate, key)
}
