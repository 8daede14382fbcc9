{{- define "workmesh.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "workmesh.labels" -}}
app.kubernetes.io/name: workmesh
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "workmesh.about" -}}
{{ include "workmesh.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Of the chart's own servers: each is named alone, so that a client that loses one knows the others. */}}
{{- define "workmesh.url" -}}
{{- if .Values.bus.url }}{{ .Values.bus.url }}{{ else -}}
{{- $name := printf "%s-nats" .Release.Name -}}
tls://{{ $name }}-0.{{ $name }}:4222,tls://{{ $name }}-1.{{ $name }}:4222,tls://{{ $name }}-2.{{ $name }}:4222
{{- end }}
{{- end }}

{{- define "workmesh.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # variables such as WORKMESH_CONSOLE_SERVICE_HOST would be settings that nobody knows
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "workmesh.container" -}}
image: {{ include "workmesh.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Files of a Secret can be read by their group, and a process refuses a key that others can read. */}}
{{- define "workmesh.keys" -}}
- name: keys
  {{- include "workmesh.container" . | nindent 2 }}
  command: [sh, -c, "install -m 0600 /secret/*.nk /keys/"]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  volumeMounts:
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: keys, mountPath: /keys}
{{- end }}

{{- define "workmesh.env" -}}
- {name: WORKMESH_TRUST_ROOT, value: {{ .Values.trustRoot | quote }}}
- {name: WORKMESH_BUS__URL, value: {{ include "workmesh.url" . | quote }}}
- {name: WORKMESH_BUS__REPLICAS, value: {{ .Values.bus.replicas | quote }}}
- {name: WORKMESH_BUS__TLS_CA, value: /tls/ca.crt}
- {name: WORKMESH_BUS__TLS_CERT, value: /tls/tls.crt}
- {name: WORKMESH_BUS__TLS_KEY, value: /tls/tls.key}
- {name: WORKMESH_MODELS__USE, value: {{ .Values.roles.model.enabled | ternary "yes" "no" | quote }}}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
