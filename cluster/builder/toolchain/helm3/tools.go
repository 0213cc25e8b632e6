//go:build tools

// Package tools pins Helm 3, which most users still have; it is built from its own main package.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
