// Command pause is the first process of every pod: it holds the pod's
// namespaces open and reaps the orphans of pods that share one pid namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}

func init() {
	// Not fatal: a pod with a shared host pid namespace has another first process.
	if os.Getpid() != 1 {
		os.Stderr.WriteString("pause: not the first process\n")
	}
}
