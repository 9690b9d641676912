{{- define "canaryd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "canaryd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "canaryd.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "canaryd.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "canaryd.selector" -}}
app.kubernetes.io/name: {{ include "canaryd.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "canaryd.labels" -}}
{{ include "canaryd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "canaryd.podLabels" -}}
{{- $own := include "canaryd.labels" . | fromYaml }}
{{- range $name, $value := .Values.podLabels }}
{{- if hasKey $own $name }}
{{- fail (printf "podLabels must leave %s to the chart, which sets it to %q, but has %q" $name (get $own $name) $value) }}
{{- end }}
{{- end }}
{{- toYaml .Values.podLabels }}
{{- end }}

{{- define "canaryd.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "canaryd.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "canaryd.policies" -}}
{{- if and .Values.policies .Values.existingPoliciesConfigMap }}
{{- $given := keys .Values.policies | sortAlpha | join ", " }}
{{- fail (printf "policies must be empty beside existingPoliciesConfigMap (%s), which is read instead, but has %s" .Values.existingPoliciesConfigMap $given) }}
{{- end }}
{{- default (printf "%s-policies" (include "canaryd.fullname" .)) .Values.existingPoliciesConfigMap }}
{{- end }}

{{- define "canaryd.settings" -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) (dict "http" (dict "listen" "0.0.0.0" "port" (int .Values.port)))) }}
{{- end }}
