{{- define "authentik-stage-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "authentik-stage-operator.serviceAccountName" -}}
{{- $default := ternary (include "authentik-stage-operator.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "authentik-stage-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "authentik-stage-operator.labels" -}}
{{ include "authentik-stage-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "authentik-stage-operator.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot see: values that do not fit each other. */}}
{{- define "authentik-stage-operator.check" -}}
{{- if .Values.watchNamespaces -}}
{{- if not .Values.clusterId -}}
{{- fail "clusterId is not set: with watchNamespaces the operator may not read the UID that it would take for it; set clusterId to a text that no other cluster has" -}}
{{- end -}}
{{- $home := .Values.defaultConnection | splitList "/" | first -}}
{{- if and .Values.defaultConnection (not (has $home .Values.watchNamespaces)) -}}
{{- fail (printf "defaultConnection %s is in a namespace that the operator does not watch: add %s to watchNamespaces, or choose another connection" .Values.defaultConnection $home) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the operator does in a namespace that it works in: its rights, and no more. */}}
{{- define "authentik-stage-operator.rules" -}}
- apiGroups: [stages.authentik-operator.dev]
  resources: [authenticatorsmsstages, authentikconnections]
  # `patch` is for finalizers alone.
  verbs: [get, list, watch, patch]
- apiGroups: [stages.authentik-operator.dev]
  resources: [authenticatorsmsstages/status, authentikconnections/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  {{- if eq .Values.secretAccess "watch" }}
  # It watches metadata only, but RBAC has no narrower right.
  verbs: [get, list, watch]
  {{- else }}
  verbs: [get]
  {{- end }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
