{{- define "rapport.labels" -}}
app.kubernetes.io/name: rapport
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "rapport.image" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "rapport.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "rapport.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What both parts have; the extra settings are the component's. */ -}}
{{- define "rapport.env" -}}
- {name: RAPPORT_ALLOW_PUBLIC_BIND, value: "{{ not .root.Values.keysSecret }}"}
- {name: RAPPORT_LOG_FORMAT, value: json}
- {name: RAPPORT_METRICS_HOST, value: "0.0.0.0"}
- {name: RAPPORT_DRAIN_DELAY, value: "{{ .root.Values.drainDelay }}"}
- {name: RAPPORT_SHUTDOWN_GRACE, value: "{{ .root.Values.shutdownGrace }}"}
{{- if .root.Values.keysSecret }}
- {name: RAPPORT_API_KEYS_FILE, value: /keys/keys.toml}
{{- end }}
{{- range $name, $value := .env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* Spreads the pods of a component over machines. */ -}}
{{- define "rapport.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "rapport.labels" . | nindent 6 }}
{{- end }}
