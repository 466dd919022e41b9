#!/bin/bash
# What run.sh has the VM do: the kernel tests, a region and its end. Its status counts what failed.
set -uo pipefail

from=/mnt/nst failed=()
note() { printf '\n== %s\n' "$*"; }
check() { # WHAT COMMAND...
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failed+=("$what"); fi
}

note "$(uname -r), $(containerd --version | cut -d' ' -f3), $(runc --version | head -1), $(nft --version)"
cat /proc/self/cgroup
check "the one hierarchy is cgroup v2" grep -q '^0::/user.slice/' /proc/self/cgroup
check "nothing has loaded overlay yet" sh -c '! grep -q overlay /proc/filesystems'

groups() { find /sys/fs/cgroup -type d \( -path '*/nodestead*' -o -name 'nst-t-*' -o -name 'kubepods*' \); }
left() { ip -o link | grep -o 'nst[^:@]*'; ip netns; groups; grep -o '/var/lib/nodestead[^ ]*' /proc/mounts; }

limit_is() { # GLOB FILE VALUE: one group has it
  local file
  for file in $1/$2; do [ "$(cat "$file")" = "$3" ] && return; done
  echo "no $1/$2 has $3:" && head -n 1 $1/$2 && return 1
}

if [ -d $from/bin ]; then
  export PATH=$from/bin:$PATH
  note "a region"
  check "up" nodestead up --nodes 1
  nodestead status
  check "the demo" nodestead demo --images $from/images
  pods=$(echo /sys/fs/cgroup/nodestead/*/i-*/kubepods)
  check "each class has its group" test -d "$pods/burstable" -a -d "$pods/besteffort"
  check "best effort weighs least" limit_is "$pods/besteffort" cpu.weight 1
  check "containers are killed as a whole" limit_is "$pods/burstable/pod*/*" memory.oom.group 1
  check "containers do not swap" limit_is "$pods/burstable/pod*/*" memory.swap.max 0
  check "down" nodestead down --purge
  check "nothing is left" test -z "$(left)"
  left
fi
for test in "$from"/tests/*; do
  [ -e "$test" ] || continue
  note "$(basename "$test")"
  # Started from a disk of the VM's own, as some start themselves again.
  install -D "$test" "/root/tests/$(basename "$test")"
  check "$(basename "$test")" "/root/tests/$(basename "$test")" --test-threads=2
done
check "tests leave no cgroup" test -z "$(groups)"
groups
note "${#failed[@]} failed"
printf '%s\n' "${failed[@]}"
exit ${#failed[@]}
