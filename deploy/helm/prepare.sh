#!/usr/bin/env bash
# Makes what the chart needs of a site, once: keys, an authority and certificates, the servers' configurations, and from
# them secrets.yaml (for `kubectl apply`) and values.yaml (for `helm install`). What is there stays.
#
#     prepare.sh RELEASE [FOLDER]
set -euo pipefail
release=${1:?say the name of the release: prepare.sh RELEASE [FOLDER]}
umask 077
mkdir -p "${2:-$release}" && cd "${2:-$release}"
export WORKMESH_STATE_DIR=site

servers=()
for n in 0 1 2; do
    name=$release-nats-$n
    servers+=(--server "$name=$name.$release-nats")
    [ -e "tls/$name.pem" ] || workmesh keys tls --dir tls --server "$name=$name.$release-nats" >/dev/null
done
[ -e tls/agents.pem ] || workmesh keys tls --dir tls --client agents >/dev/null
workmesh bus config "${servers[@]}" --out nats --tls /etc/nats --store /var/lib/nats --monitor-port 8222

secret() { # NAME KEY=FILE...
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ndata:\n' "$1"
    for entry in "${@:2}"; do
        printf '  %s: %s\n' "${entry%%=*}" "$(base64 -w 0 "${entry#*=}")"
    done
}
{
    for key in site/keys/*.nk; do
        role=$(basename "$key" .nk)
        case $role in admin | operator | publisher) ;; *) secret "workmesh-key-$role" "$role.nk=$key" ;; esac
    done
    all=()
    for key in site/keys/*.nk; do all+=("$(basename "$key")=$key"); done
    secret workmesh-site-keys "${all[@]}"
    secret workmesh-bus-tls ca.crt=tls/ca.pem tls.crt=tls/agents.pem tls.key=tls/agents.key
    files=(ca.pem=tls/ca.pem)
    for n in 0 1 2; do
        name=$release-nats-$n
        files+=("$name.conf=nats/$name.conf" "$name.pem=tls/$name.pem" "$name.key=tls/$name.key")
    done
    secret workmesh-nats "${files[@]}"
} >secrets.yaml
[ -e values.yaml ] || printf 'trustRoot: %s\n' "$(cat site/trust_root)" >values.yaml
echo "made in $PWD: secrets.yaml, values.yaml; keep site/keys/admin.nk and tls/ca.key where few can reach them"
