#!/bin/bash
# Installs packages of the distribution, as root, for what instances run and tests need.
#
# A service that comes with one neither starts now nor with the machine: an SSH server on a host that had
# none would be a door that nobody asked for. What was installed before stays as its owner has it, so only
# what is missing may be named.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
# One of an earlier run that was killed counts for none.
if [ ! -e "$policy" ] || grep -q '^# Of .*packages\.sh, while it runs' "$policy"; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\n# Of %s, while it runs.\nexit 101\n' "$0" >"$policy"
  chmod 755 "$policy"
fi

# By systemd's names; a service of the old kind has that of its unit.
switch_off() {
  for unit in "$@"; do
    if command -v systemctl >/dev/null; then
      systemctl disable --quiet "$unit" 2>/dev/null || true
    fi
    if [ -e "/etc/init.d/${unit%.service}" ]; then
      update-rc.d "${unit%.service}" disable >/dev/null || true
    fi
  done
}

apt-get update -qq
# RUNLEVEL: maintainers' scripts that know no policy ask for it.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -y -qq --no-install-recommends "$@"
for package in "$@"; do
  case $package in
    containerd) switch_off containerd.service ;;
    openssh-server) switch_off ssh.socket ssh.service ;;
    etcd-server) switch_off etcd.service ;;
  esac
done
