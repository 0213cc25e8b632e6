//go:build tools

// Package tools pins Helm, which is built from its own main package.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
