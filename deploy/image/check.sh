#!/usr/bin/env bash
# Builds the image without a daemon, runs it as operators should, and relays a real message through it. Run as root
# from anywhere; needs buildah, podman, runc, the base image (base.sh makes a stand-in) and `npm ci` done here.
#
# NODE_IMAGE   the base image; default: the stand-in
# IMAGE        the name of the result; default: localhost/halfway:ci
set -euo pipefail
cd "$(dirname "$0")/../.."
node_image=${NODE_IMAGE:-localhost/node:22-trixie-slim}
image=${IMAGE:-localhost/halfway:ci}
name=halfway-check-$$
work=$(mktemp -d)
podman() { command podman --runtime runc "$@"; }
clean_up() {
  podman rm -f "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT
fail() {
  echo "image: $1" >&2
  podman logs "$name" >&2 || true
  exit 1
}

version=$(node -p 'JSON.parse(fs.readFileSync("package.json", "utf8")).version')
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# Without --format docker the health check would be lost.
buildah bud --pull-never --isolation chroot --network host --format docker --layers \
  --build-arg "NODE_IMAGE=$node_image" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" -t "$image" .
# What earlier builds left; the layers of this day's builds make the next one fast.
podman image prune -f --filter until=24h >/dev/null

read -r port admin_port < <(node deploy/image/free-ports.mjs 2)
key=$(head -c 32 /dev/urandom | base64 -w 0)
printf '%s' "$key" >"$work/root.key"
cat >"$work/halfway.yaml" <<YAML
namespaces:
  - name: check
    authorizationRules:
      - { name: root, rights: [Listen, Send, Manage], primaryKeyFile: root.key }
    hybridConnections:
      - name: hyco
YAML
chmod 755 "$work"
chmod 644 "$work"/*

# Root without CAP_SYS_RESOURCE cannot raise limits, so those in force are named.
nofile=$(ulimit -Hn)
nproc=$(cat /proc/sys/kernel/pid_max)
podman run -d --name "$name" --network host --read-only --tmpfs /tmp:size=16m --cap-drop ALL \
  --security-opt no-new-privileges --ulimit "nofile=$nofile:$nofile" --ulimit "nproc=$nproc:$nproc" \
  --memory 256m --cpus 1 --health-interval=disable -v "$work:/etc/halfway:ro" \
  -e HALFWAY_HOST=127.0.0.1 -e "HALFWAY_PORT=$port" -e "HALFWAY_ADMIN_PORT=$admin_port" "$image" >/dev/null

# The image's own health check, by hand: timers of podman want systemd.
for _ in $(seq 50); do
  if podman healthcheck run "$name" >/dev/null 2>&1; then break; fi
  sleep 0.1
done
podman healthcheck run "$name" || fail 'the health check fails'
test "$(podman exec "$name" id -u)" = 1000 || fail 'runs as another user than 1000'
if podman exec "$name" touch /app/probe 2>/dev/null; then fail 'the root file system is writable'; fi
node deploy/image/relay-a-message.mjs "ws://127.0.0.1:$port" hyco "$work/root.key" || fail 'no message came through'
curl -fsS "http://127.0.0.1:$admin_port/readyz" >"$work/readyz"
if grep -q degraded "$work/readyz"; then fail 'the native data plane is not in use'; fi

podman stop -t 40 "$name" >/dev/null
test "$(podman inspect -f '{{.State.ExitCode}}' "$name")" = 0 || fail 'does not end with exit code 0'
podman logs "$name" >"$work/log" 2>&1
grep -q '"msg":"listening"' "$work/log" || fail 'did not say that it listens'
if grep -qF -e "$key" -e 'sig=' -e SharedAccessSignature "$work/log"; then fail 'a secret is in the log'; fi
size=$(podman image inspect -f '{{.Size}}' "$image")
base=$(podman image inspect -f '{{.Size}}' "$node_image")
echo "image: ok, $((size / 1000000)) MB, of which $(((size - base) / 1000000)) MB are not the base image's"
