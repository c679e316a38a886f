#!/bin/sh
# Boots the root directory $1 by its own systemd, in the namespaces and the cgroups that this was started in.
set -eu
root=$1
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
# Each hierarchy again, of which the namespace shows its own part.
for hierarchy in /sys/fs/cgroup/*/; do
    name=$(basename "$hierarchy")
    options=$(findmnt --noheadings --first-only --output FS-OPTIONS "$hierarchy" | sed 's/^rw,\(no[a-z]*,\)*//')
    if [ "$(findmnt --noheadings --first-only --output FSTYPE "$hierarchy")" = cgroup ] && [ "$name" != unified ]; then
        mkdir "sys/fs/cgroup/$name"
        case $options in name=*) options=none,$options ;; esac
        mount -t cgroup -o "$options" cgroup "sys/fs/cgroup/$name"
    fi
done
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
ip link set lo up
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd
