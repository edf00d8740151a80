{{- define "streaming-asr.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 55 characters at most, so that suffixes fit. */}}
{{- define "streaming-asr.fullname" -}}
{{- $name := include "streaming-asr.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "streaming-asr.selector" -}}
app.kubernetes.io/name: {{ include "streaming-asr.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streaming-asr.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "streaming-asr.selector" . }}
{{- end }}

{{- /* Where the image has the server's cache. */}}
{{- define "streaming-asr.cachePath" -}}
{{- get (dict "ascend" "/root/.cache" "cuda" "/home/vllm/.cache" "cpu" "/home/asr/.cache") .Values.accelerator }}
{{- end }}

{{- define "streaming-asr.model" -}}
{{- .Values.model | default (ternary "Qwen/Qwen3-ASR-0.6B" "Qwen/Qwen3-ASR-1.7B" (eq .Values.accelerator "cpu")) }}
{{- end }}

{{- /* The device as Kubernetes counts it; nothing on CPUs. */}}
{{- define "streaming-asr.device" -}}
{{- if eq .Values.accelerator "ascend" }}{{ .Values.ascend.resource }}{{ end }}
{{- if eq .Values.accelerator "cuda" }}{{ .Values.cuda.resource }}{{ end }}
{{- end }}

{{- define "streaming-asr.sharedMemory" -}}
{{- $large := and (eq .Values.accelerator "ascend") (contains "310P" .Values.ascend.resource) }}
{{- .Values.sharedMemory | default (ternary "10Gi" "2Gi" $large) }}
{{- end }}

{{- define "streaming-asr.secret" -}}
{{- .Values.apiKeys.existingSecret | default (include "streaming-asr.fullname" .) }}
{{- end }}

{{- define "streaming-asr.cacheClaim" -}}
{{- .Values.cache.existingClaim | default (printf "%s-cache" (include "streaming-asr.fullname" .)) }}
{{- end }}

{{- define "streaming-asr.grace" -}}
{{- .Values.terminationGraceSeconds | default (add .Values.preStopSeconds .Values.drainSeconds 40) }}
{{- end }}

{{- /* Whether there may be more than one server. */}}
{{- define "streaming-asr.several" -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}yes{{ end }}
{{- end }}

{{- /* What the schema of the values can't say. */}}
{{- define "streaming-asr.check" -}}
{{- if not (or .Values.apiKeys.existingSecret .Values.apiKeys.values .Values.apiKeys.allowAnonymous) }}
{{- fail "Clients need a key: set apiKeys.existingSecret or apiKeys.values, or apiKeys.allowAnonymous if every client may use the service." }}
{{- end }}
{{- if and .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}
{{- fail "autoscaling.hpa and autoscaling.keda would work against each other: enable one of them." }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas." }}
{{- end }}
{{- if and (include "streaming-asr.several" .) (eq .Values.cache.type "claim") (not .Values.cache.existingClaim) (eq .Values.cache.accessMode "ReadWriteOnce") }}
{{- fail "Several servers can't share a cache that is ReadWriteOnce: set cache.accessMode to ReadWriteMany, or cache.type to ephemeral or emptyDir." }}
{{- end }}
{{- if le (int (include "streaming-asr.grace" .)) (int (add .Values.preStopSeconds .Values.drainSeconds)) }}
{{- fail "terminationGraceSeconds must be more than preStopSeconds and drainSeconds together: else sessions are cut off." }}
{{- end }}
{{- if and .Values.models.hostPath .Values.models.existingClaim }}
{{- fail "models.hostPath and models.existingClaim exclude each other." }}
{{- end }}
{{- if and (hasPrefix "/models" .Values.model) (not .Values.models.hostPath) (not .Values.models.existingClaim) }}
{{- fail "The model is a folder below /models: set models.hostPath or models.existingClaim." }}
{{- end }}
{{- end }}
