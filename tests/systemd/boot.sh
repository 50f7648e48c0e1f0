#!/bin/bash
# Process 1 of a throwaway machine: builds its file system and becomes systemd. Called by machine.py, inside new namespaces.
#   boot.sh SCRATCH PROJECT PYTHON_PREFIX PYTHON_BASE_PREFIX
# Everything written inside lands in a tmpfs: the machine around it keeps its files, its network and its units.
set -euo pipefail
scratch=$1 project=$2 prefix=$3 base=$4
mount --make-rprivate /
mount -t tmpfs tmpfs "$scratch"
root=$scratch/root
mkdir "$scratch"/{upper,work,project,project-work,venv,venv-work} "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
# All of these are needed for a unit with PrivateDevices=.
mkdir "$root"/dev/{shm,pts,mqueue,hugepages}
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for folder in run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
chmod 755 "$root/run"

# What systemd/README.md installs: the project in /opt/jqd, a virtual environment in it, a user, an empty /etc/jqd.
mkdir -p "$root/opt/jqd" "$root/etc/jqd" "$root/etc/systemd/system" "$root/var/log/journal"
mount -t overlay overlay -o "lowerdir=$project,upperdir=$scratch/project,workdir=$scratch/project-work" "$root/opt/jqd"
mkdir -p "$root/opt/jqd/.venv"
mount -t overlay overlay -o "lowerdir=$prefix,upperdir=$scratch/venv,workdir=$scratch/venv-work" "$root/opt/jqd/.venv"
if [[ $base != /usr ]]; then # a Python of somebody's home, which the units may not see, has to move
  mkdir -p "$root/opt/python"
  mount --bind "$base" "$root/opt/python"
  ln -sfn "/opt/python/bin/$(basename "$(realpath "$prefix/bin/python")")" "$root/opt/jqd/.venv/bin/python"
  sed -i 's|^home = .*|home = /opt/python/bin|' "$root/opt/jqd/.venv/pyvenv.cfg"
  mkdir -p "$root/etc/systemd/system.conf.d"
  printf '[Manager]\nDefaultEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n' >"$root/etc/systemd/system.conf.d/python.conf"
fi
for command in jqd:supervisor.cli jqctl:supervisor.ctl; do
  printf '#!/opt/jqd/.venv/bin/python\nimport sys\nfrom %s import main\nsys.exit(main())\n' "${command#*:}" \
    >"$root/opt/jqd/.venv/bin/${command%:*}"
  chmod 755 "$root/opt/jqd/.venv/bin/${command%:*}"
done
for folder in "$root"/opt/jqd/.venv/lib/python3*/site-packages; do echo /opt/jqd >"$folder/jqd-under-test.pth"; done
echo 'jqd:x:871:871::/opt/jqd:/usr/sbin/nologin' >>"$root/etc/passwd"
echo 'jqd:x:871:' >>"$root/etc/group"
cp "$project"/systemd/*.service "$root/etc/systemd/system/"
printf '[Unit]\nWants=systemd-journald.socket systemd-journald.service\nAfter=systemd-journald.service\n' \
  >"$root/etc/systemd/system/machine.target"
ip link set lo up 2>/dev/null || true
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l run/old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=no <dev/null
