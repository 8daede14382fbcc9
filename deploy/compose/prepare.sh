#!/usr/bin/env bash
# Makes what compose.yaml mounts, once: the site's keys, an authority and certificates, the servers' configurations,
# passwords. What is there stays. Run it as root, where `workmesh` is on PATH, or in the image (docs/containers.md):
# the files are then given to the users of the images.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
export WORKMESH_STATE_DIR=site
read -ra servers <<<"${SERVERS:-nats-1=nats-1 nats-2=nats-2 nats-3=nats-3}" # NAME=HOST[:PORT[:ROUTES]]

for server in "${servers[@]}"; do
    name=${server%%=*} host=${server#*=}
    [ -e "tls/$name.pem" ] || workmesh keys tls --dir tls --server "$name=${host%%:*}" >/dev/null
done
[ -e tls/agents.pem ] || workmesh keys tls --dir tls --client agents >/dev/null
workmesh bus config "${servers[@]/#/--server=}" --out nats --tls /run/secrets --store /var/lib/nats --monitor-port 8222

mkdir -p site/console intake
secret() { python3 -c 'import secrets; print(secrets.token_urlsafe(24))'; }
[ -e grafana.password ] || secret >grafana.password
if [ ! -e qdrant.env ]; then
    key=$(secret)
    echo "QDRANT__SERVICE__API_KEY=$key" >qdrant.env
    echo "QDRANT_API_KEY=$key" >memory.env
fi

if [ "$(id -u)" = 0 ]; then
    chown -R 10001:10001 site tls nats intake # the user of our image
    chown 472 grafana.password                # Grafana's own
else
    echo "not run as root: give site, tls, nats and intake to user 10001, and grafana.password to 472" >&2
fi
echo "made: site/ (once all runs, keep keys/admin.nk elsewhere), tls/ (likewise ca.key), nats/, passwords"
