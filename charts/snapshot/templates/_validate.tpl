{{/*
What values.schema.json cannot say, and the seeds' three refusals for those who skip the schema.
Every message begins with the value and ends with the remedy.
*/}}
{{- define "snapshot.validate" -}}
{{- $values := include "snapshot.effective" . | fromYaml -}}
{{- if not (has $values.runtime.type (list "containerd" "crio")) -}}
{{- fail (printf "runtime.type: %q is unknown; set containerd or crio" $values.runtime.type) -}}
{{- end -}}
{{- if ne $values.storage.type "pvc" -}}
{{- fail (printf "storage.type: %q is not served by this version; set pvc" $values.storage.type) -}}
{{- end -}}
{{- if not (has $values.storage.accessMode (list "agentMount" "podMount")) -}}
{{- fail (printf "storage.accessMode: %q is unknown; set agentMount or podMount" $values.storage.accessMode) -}}
{{- end -}}
{{- include "snapshot.validateClaim" $values.storage.pvc -}}
{{- if ($values.daemonset.affinity).nodeAffinity -}}
{{- fail "daemonset.affinity.nodeAffinity: is not supported; choose nodes by daemonset.nodeSelector" -}}
{{- end -}}
{{- if and (not $values.serviceAccount.create) (not $values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: must be set when serviceAccount.create is false" -}}
{{- end -}}
{{- if and $values.webhook.excludedNamespaces $values.rbac.namespaceRestricted -}}
{{- fail "webhook.excludedNamespaces: has no effect while the release serves its own namespace only; remove it or set rbac.namespaceRestricted=false" -}}
{{- end -}}
{{- include "snapshot.validateCoexistence" . -}}
{{- end -}}

{{/*
Blocks whose values are read one by one. Without this an upgrade from a release that did not have one ends in
"nil pointer evaluating interface {}".
*/}}
{{- define "snapshot.validateBlocks" -}}
{{- $blocks := list
  "runtime" "openshift" "gpu" "storage" "storage.pvc" "daemonset" "daemonset.image" "daemonset.initContainer"
  "controlPlane" "controlPlane.image" "seccomp" "serviceAccount" "rbac" "config" "config.criu" "checkpoint"
  "checkpoint.seccomp" "webhook" "webhook.certManager" "placeholder" "graphDeployments" "automatic" "policy"
  "policy.restoreVerb" "policy.require" "policy.agent" "policy.unreachableMark" "monitoring"
  "monitoring.serviceMonitor" "monitoring.prometheusRule" "monitoring.dashboard" "networkPolicy"
-}}
{{- range $path := $blocks -}}
{{- $found := $.Values -}}
{{- range splitList "." $path -}}
{{- $found = index ($found | default dict) . -}}
{{- end -}}
{{- if not (kindIs "map" $found) -}}
{{- fail (printf "%s: this block of values is missing, as after helm upgrade --reuse-values from a release that did not have it; upgrade with --reset-then-reuse-values" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "snapshot.validateClaim" -}}
{{- $parts := splitList "/" (trimPrefix "/" .basePath) -}}
{{- if or (not (hasPrefix "/" .basePath)) (has "" $parts) (has "." $parts) (has ".." $parts) -}}
{{- fail (printf "storage.pvc.basePath: %q must be an absolute path without empty parts, . and .., for example /checkpoints" .basePath) -}}
{{- end -}}
{{- if has (first $parts) (list "bin" "dev" "etc" "lib" "lib64" "opt" "proc" "root" "run" "sbin" "sys" "tmp" "usr" "snapshot-control") -}}
{{- fail (printf "storage.pvc.basePath: %q would hide files of the system; choose a folder of its own, for example /checkpoints" .basePath) -}}
{{- end -}}
{{- if and .create (not (regexMatch "[1-9]" (toString .size))) -}}
{{- fail "storage.pvc.size: must be more than zero when storage.pvc.create is true" -}}
{{- end -}}
{{- end -}}

{{/*
Two controllers on one DynamoCheckpoint undo each other's work. The platform's CRD is told from ours by the
annotation of the generator that made it; lookup finds nothing where Helm only renders.
*/}}
{{- define "snapshot.validateCoexistence" -}}
{{- if not .Values.coexist -}}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "dynamocheckpoints.nvidia.com" -}}
{{- if hasKey (($crd.metadata).annotations | default dict) "controller-gen.kubebuilder.io/version" -}}
{{- fail "coexist: the CRD dynamocheckpoints.nvidia.com of this cluster belongs to another installation (a Dynamo platform); set coexist=agentOnly to run only the agent beside it, or remove that platform and its CRD first" -}}
{{- end -}}
{{- end -}}
{{- end -}}
