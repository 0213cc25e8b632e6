{{/* Environment that every process reads. Usage: include "snapshot.env" (list . "log level") */}}
{{- define "snapshot.env" -}}
{{- $root := index . 0 -}}
- name: POD_NAME
  valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}
- name: RELEASE_NAME
  value: {{ $root.Release.Name }}
- name: RELEASE_FULLNAME
  value: {{ include "snapshot.fullname" $root }}
{{- if $root.Values.rbac.namespaceRestricted }}
- name: RESTRICTED_NAMESPACE
  value: {{ $root.Release.Namespace }}
{{- end }}
- name: SNAPSHOT_LOG_LEVEL
  value: {{ index . 1 }}
{{- end -}}

{{/* A new configuration starts new pods. */}}
{{- define "snapshot.checksum" -}}
checksum/config: {{ include "snapshot.effective" . | sha256sum }}
{{- end -}}

{{/* As contract/config/images.py. Usage: include "snapshot.image" (list . "image") */}}
{{- define "snapshot.image" -}}
{{- $registry := ((index . 0).Values.global | default dict).imageRegistry -}}
{{- $image := index . 1 -}}
{{- if $registry -}}
{{- $parts := splitList "/" $image -}}
{{- $first := first $parts -}}
{{- if and (rest $parts) (or (eq $first "localhost") (contains "." $first) (contains ":" $first)) -}}
{{- $image = rest $parts | join "/" -}}
{{- end -}}
{{- $image = printf "%s/%s" (trimSuffix "/" $registry) $image -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{/* Usage: include "snapshot.pullSecrets" (list . "the part's own") */}}
{{- define "snapshot.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (((index . 0).Values.global | default dict).imagePullSecrets | default list) (index . 1 | default list) -}}
{{- if kindIs "string" . -}}{{- $names = append $names . -}}{{- else -}}{{- $names = append $names .name -}}{{- end -}}
{{- end -}}
{{- with $names | uniq -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "snapshot.controlPlaneImage" -}}
{{- with .Values.controlPlane.image -}}
image: {{ include "snapshot.image" (list $ (printf "%s:%s" .repository (.tag | default $.Chart.AppVersion))) | quote }}
imagePullPolicy: {{ .pullPolicy }}
{{- end -}}
{{- end -}}

{{/* The restricted Pod Security Standard; the user is the image's own, or the one that OpenShift assigns. */}}
{{- define "snapshot.restrictedContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "snapshot.restrictedPod" -}}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Where webhook and controller run, and from which registry. */}}
{{- define "snapshot.controlPlanePlacement" -}}
{{- with .Values.controlPlane -}}
{{- with include "snapshot.pullSecrets" (list $ .imagePullSecrets) }}
{{ . }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
nodeSelector: {{- mergeOverwrite (dict "kubernetes.io/os" "linux") (.nodeSelector | default dict) | toYaml | nindent 2 }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Usage: include "snapshot.controlPlanePodMetadata" (list . "component") */}}
{{- define "snapshot.controlPlanePodMetadata" -}}
{{- $root := index . 0 -}}
labels: {{- merge (include "snapshot.labels" . | fromYaml) ($root.Values.controlPlane.podLabels | default dict) | toYaml | nindent 2 }}
annotations: {{- merge (include "snapshot.checksum" $root | fromYaml) ($root.Values.controlPlane.podAnnotations | default dict) | toYaml | nindent 2 }}
{{- end -}}

{{/* Python starts slowly on a busy node: liveness waits for the start, not for a guess of it. */}}
{{- define "snapshot.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* What the pods of the second DaemonSet of agents have besides; usage: include "snapshot.agentNodes" (dict ["rest" true]) */}}
{{- define "snapshot.agentNodes" -}}
{{- if hasKey . "rest" -}}
nvidia.com/snapshot-nodes: cpu
{{- end -}}
{{- end -}}

{{/*
The owner's affinity, which says nothing of nodes, and where agents are not: on nodes with GPUs those of the second
DaemonSet; on nodes whose driver the GPU Operator is about to unload all others, as they have it open. It changes the
first label from 26.7 on, and has always changed that of its device plugin.
Usage: include "snapshot.agentAffinity" (list . (dict ["rest" true]))
*/}}
{{- define "snapshot.agentAffinity" -}}
{{- with index . 0 }}
{{- toYaml . }}
{{ end -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          {{- if hasKey (index . 1) "rest" }}
          - {key: nvidia.com/gpu.present, operator: NotIn, values: ["true"]}
          {{- else }}
          {{- range $part := list "client" "device-plugin" }}
          - {key: nvidia.com/gpu.deploy.{{ $part }}, operator: NotIn, values: [paused-for-driver-upgrade, paused-for-mig-change]}
          {{- end }}
          {{- end }}
{{- end -}}
