#!/bin/sh
# Installs the machine service: account, folders, unit. Safe to run again, after an update too.
#   sudo deploy/machine/install.sh                installs, and starts it once it is registered
#   sudo deploy/machine/install.sh --uninstall    stops and removes it; the state stays
#   sudo deploy/machine/install.sh --uninstall --purge    removes state and account as well
# --program DIR   the built repository (default: the one that this file is in)
# --node FILE     Node (default: the node in PATH)
# --root DIR      puts all files below DIR, and leaves accounts and systemd alone: for images and tests
set -eu

ACCOUNT=halfway-machine
here=$(cd "$(dirname "$0")" && pwd)
program=$(cd "$here/../.." && pwd)
node=$(command -v node || echo /usr/bin/node)
root=
mode=install
purge=no

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

while [ $# -gt 0 ]; do
  case $1 in
    --uninstall) mode=uninstall ;;
    --purge) purge=yes ;;
    --program | --node | --root)
      [ $# -ge 2 ] || fail "$1 needs a value" 64
      case $1 in
        --program) program=$2 ;;
        --node) node=$2 ;;
        --root) root=${2%/} ;;
      esac
      shift
      ;;
    *) fail "unknown option $1; see the top of this file" 64 ;;
  esac
  shift
done
[ "$purge" = no ] || [ "$mode" = uninstall ] || fail '--purge goes with --uninstall' 64

unit=$root/etc/systemd/system/halfway-machine.service
settings=$root/etc/halfway
state=$root/var/lib/halfway-machine
command=$root/usr/local/bin/halfway

is_system() { [ -z "$root" ]; }
has_systemd() { is_system && [ -d /run/systemd/system ]; }
has_account() { getent passwd "$ACCOUNT" >/dev/null 2>&1; }

if is_system && [ "$(id -u)" != 0 ]; then fail 'run it as root (sudo)'; fi

install_service() {
  [ -f "$program/dist/main.js" ] || fail "there is no built program in $program: npm ci && npm run build"
  [ -x "$node" ] || fail "there is no Node at $node: name it with --node"
  case $program$node in
    *[!A-Za-z0-9/._+-]*) fail 'the paths of program and Node must have no spaces or other special characters' ;;
  esac
  if is_system && ! has_account; then
    # No shell and no password: nobody signs in as this account.
    useradd --system --user-group --no-create-home --home-dir "$state" \
      --shell "$(command -v nologin || echo /usr/sbin/nologin)" "$ACCOUNT"
  fi
  mkdir -p "$state" "$settings" "$(dirname "$unit")" "$(dirname "$command")"
  chmod 0700 "$state"
  if is_system; then chown "$ACCOUNT:$ACCOUNT" "$state"; fi
  if [ ! -e "$settings/machine.environment" ]; then
    printf '%s\n' '# Of the machine service, one a line: HTTPS_PROXY, NODE_EXTRA_CA_CERTS, and options of' \
      '# "halfway machine run" as MACHINE_OPTIONS=--session-host os-account' \
      >"$settings/machine.environment"
    chmod 0644 "$settings/machine.environment"
  fi
  sed -e "s|/usr/bin/node|$node|" -e "s|/opt/halfway|$program|g" \
    "$here/halfway-machine.service" >"$unit.new"
  chmod 0644 "$unit.new"
  mv "$unit.new" "$unit"
  # A program of that name which is somebody else's stays.
  if [ ! -e "$command" ] || grep -q '^# of halfway install.sh$' "$command" 2>/dev/null; then
    printf '#!/bin/sh\n# of halfway install.sh\nexec %s %s/dist/main.js "$@"\n' "$node" "$program" >"$command"
    chmod 0755 "$command"
  fi
  if has_systemd; then
    systemctl daemon-reload
    systemctl enable --quiet halfway-machine.service
    # What runs goes on; before the registration its condition keeps it from starting.
    systemctl restart halfway-machine.service
  fi
  if [ ! -e "$state/machine.json" ]; then
    echo 'installed; next:'
    echo "  sudo -u $ACCOUNT halfway machine register --endpoint https://HOST --activation-code"
    echo '  sudo systemctl start halfway-machine'
  else
    echo 'installed'
  fi
}

uninstall_service() {
  if has_systemd && [ -e "$unit" ]; then
    systemctl disable --now --quiet halfway-machine.service || true
    # The executors of runs were left alone; now they end as well.
    systemctl kill --signal=KILL halfway-machine.service 2>/dev/null || true
  fi
  rm -f "$unit"
  if grep -q '^# of halfway install.sh$' "$command" 2>/dev/null; then rm -f "$command"; fi
  if has_systemd; then systemctl daemon-reload; fi
  if [ "$purge" = yes ]; then
    rm -rf "$state" "$settings/machine.environment"
    if is_system && has_account; then userdel "$ACCOUNT"; fi
    echo 'uninstalled, with its state; the server still has its record unless "halfway machine unregister" was called'
  else
    echo "uninstalled; its state is still in $state"
  fi
}

if [ "$mode" = install ]; then install_service; else uninstall_service; fi
