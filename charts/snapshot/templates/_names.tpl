{{- define "snapshot.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* "chrek" is the name that the first guide gives to chart and release alike: its commands look for chrek-agent. */}}
{{- define "snapshot.isOwnName" -}}
{{- if or (contains (include "snapshot.name" .) .Release.Name) (eq .Release.Name "chrek") -}}true{{- end -}}
{{- end -}}

{{/* 48: the longest name made of it, <fullname>-webhook-tls, stays a DNS label. */}}
{{- define "snapshot.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if include "snapshot.isOwnName" . -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "snapshot.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-scoped objects carry the namespace too, so that releases in two namespaces do not meet. */}}
{{- define "snapshot.clusterName" -}}
{{- printf "%s-%s" (include "snapshot.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "snapshot.agentServiceAccount" -}}
{{- .Values.serviceAccount.name | default (printf "%s-agent" (include "snapshot.fullname" .)) -}}
{{- end -}}

{{/* Usage: include "snapshot.labels" (list . "component") */}}
{{- define "snapshot.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: dynamo-snapshot
{{ include "snapshot.selector" . }}
{{- end -}}

{{- define "snapshot.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "snapshot.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Rights reach as far as the release does. */}}
{{- define "snapshot.roleKind" -}}
{{- ternary "Role" "ClusterRole" .Values.rbac.namespaceRestricted -}}
{{- end -}}

{{/* Usage: include "snapshot.roleMetadata" (list . "component"): metadata of a role or binding of that reach. */}}
{{- define "snapshot.roleMetadata" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.rbac.namespaceRestricted -}}
name: {{ include "snapshot.fullname" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
{{- else -}}
name: {{ include "snapshot.clusterName" $root }}-{{ index . 1 }}
{{- end }}
labels: {{- include "snapshot.labels" . | nindent 2 }}
{{- end -}}

{{/* Usage: include "snapshot.binding" (list . "component" "service account") */}}
{{- define "snapshot.binding" -}}
{{- $root := index . 0 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ include "snapshot.roleKind" $root }}Binding
metadata: {{- include "snapshot.roleMetadata" (list $root (index . 1)) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ include "snapshot.roleKind" $root }}
  name: {{ include (ternary "snapshot.fullname" "snapshot.clusterName" $root.Values.rbac.namespaceRestricted) $root }}-{{ index . 1 }}
subjects:
  - kind: ServiceAccount
    name: {{ index . 2 }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}
