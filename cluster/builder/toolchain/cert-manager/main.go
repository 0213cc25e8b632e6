// Command cert-manager is cert-manager's controller and its cainjector in one
// binary, which dispatches on the name it was called by. Their own commands
// are modules without a version, so that no module proxy has them; what they
// run is in the module that has one, and only wired up here. Issuers that
// speak to the world (ACME, Vault, Venafi) are left out.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	programs := map[string]func(context.Context) error{
		"cert-manager-controller": runController,
		"cert-manager-cainjector": runInjector,
	}
	name := filepath.Base(os.Args[0])
	program, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "cert-manager: called as %q; link it to the name of the program to run\n", name)
		os.Exit(2)
	}
	ctrl.SetLogger(klog.Background())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := program(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		stop()
		os.Exit(1)
	}
}
