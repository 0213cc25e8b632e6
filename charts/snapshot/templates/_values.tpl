{{/*
The values with the platform chart's block laid over ours, as YAML: what all processes read.
*/}}
{{- define "snapshot.effective" -}}
{{- $values := deepCopy .Values -}}
{{- $theirs := ((index $values "dynamo-operator" | default dict).checkpoint) | default dict -}}
{{- if kindIs "bool" $theirs.enabled -}}
{{- $_ := set $values.checkpoint "enabled" $theirs.enabled -}}
{{- end -}}
{{- $claim := (($theirs.storage | default dict).pvc) | default dict -}}
{{- $words := dict "pvcName" "name" "basePath" "basePath" "create" "create" "size" "size" "storageClassName" "storageClass" "accessMode" "accessMode" -}}
{{- range $said, $ours := $words -}}
{{- if not (kindIs "invalid" (index $claim $said)) -}}
{{- $_ := set $values.storage.pvc $ours (index $claim $said) -}}
{{- end -}}
{{- end -}}
{{- if not $values.storage.pvc.name -}}
{{- $_ := set $values.storage.pvc "name" (include "snapshot.claimName" .) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{/*
The claim's name if the values have none. The first guide's release shows chrek-pvc; one that was installed before it was
called so keeps the claim that it has.
*/}}
{{- define "snapshot.claimName" -}}
{{- $name := "snapshot-pvc" -}}
{{- if eq .Release.Name "chrek" -}}
{{- $had := lookup "v1" "PersistentVolumeClaim" .Release.Namespace $name | default dict -}}
{{- $owner := index (($had.metadata | default dict).annotations | default dict) "meta.helm.sh/release-name" -}}
{{- $name = ternary $name "chrek-pvc" (eq ($owner | default "") .Release.Name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Whether webhook and controller are part of the release: non-empty if so. */}}
{{- define "snapshot.controlPlane" -}}
{{- if ne .Values.coexist "agentOnly" -}}yes{{- end -}}
{{- end -}}

{{/* Which namespaces the webhook sees. */}}
{{- define "snapshot.namespaceSelector" -}}
{{- if .Values.webhook.namespaceSelector -}}
{{- toYaml .Values.webhook.namespaceSelector -}}
{{- else if .Values.rbac.namespaceRestricted -}}
matchLabels:
  kubernetes.io/metadata.name: {{ .Release.Namespace }}
{{- else -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{- prepend (.Values.webhook.excludedNamespaces | default list) "kube-system" | uniq | toYaml | nindent 6 }}
  - key: nvidia.com/snapshot-restore
    operator: NotIn
    values: [disabled]
{{- end -}}
{{- end -}}

{{/* Which of their pods, by labels; nothing said: all. */}}
{{- define "snapshot.objectSelector" -}}
{{- toYaml (.Values.webhook.objectSelector | default dict) -}}
{{- end -}}

{{/* Namespaces whose pods the agent serves. What guards restores must reach as far, whomever the webhook leaves out. */}}
{{- define "snapshot.reach" -}}
{{- if .Values.rbac.namespaceRestricted -}}
matchLabels:
  kubernetes.io/metadata.name: {{ .Release.Namespace }}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* The user name of the agent's token. */}}
{{- define "snapshot.agentUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "snapshot.agentServiceAccount" . }}
{{- end -}}

{{/*
Only pods that opted in: everything else never causes a call.
Labels and annotations may be absent, and an expression that stumbles over that would, under failurePolicy Fail,
refuse every pod without labels.
*/}}
{{- define "snapshot.matchConditions" -}}
- name: opted-in
  expression: >-
    object.metadata.?labels[?'nvidia.com/snapshot-restore'].orValue('') in ['enabled', 'auto']
    || object.metadata.?annotations[?'nvidia.com/dynamo-checkpoint-restore-candidate'].orValue('') == 'true'
    || (object.metadata.?labels[?'nvidia.com/snapshot-trigger'].orValue('') == 'true'
    && !object.metadata.?labels[?'nvidia.com/snapshot-restore'].hasValue())
{{- end -}}
