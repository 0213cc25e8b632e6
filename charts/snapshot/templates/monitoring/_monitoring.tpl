{{/*
A file of expressions with the release's words in the place of its %placeholders%: braces are Prometheus' own.
Usage: include "snapshot.monitoring" (list . "files/alerts.yaml")
*/}}
{{- define "snapshot.monitoring" -}}
{{- $root := index . 0 -}}
{{- $namespace := $root.Release.Namespace -}}
{{- $fullname := include "snapshot.fullname" $root -}}
{{- $root.Files.Get (index . 1)
  | replace "%webhook%" (printf "namespace=\"%s\",job=\"%s-webhook\"" $namespace $fullname)
  | replace "%controller%" (printf "namespace=\"%s\",job=\"%s-controller\"" $namespace $fullname)
  | replace "%jobs%" (printf "%s-(webhook|controller)" $fullname)
  | replace "%release%" (printf "%s/%s" $namespace $fullname)
  | replace "%namespace%" $namespace
  | replace "%entry%" "pods.snapshot.nvidia.com" -}}
{{- end -}}
