package main

import (
	"context"

	"github.com/spf13/cobra"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// newKubelet differs from its siblings: the kubelet parses its own flags.
func newKubelet() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }
