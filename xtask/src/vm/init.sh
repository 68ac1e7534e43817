#!/bin/busybox sh
# Runs from the archive the kernel was started with: mounts the files of the other machine under a layer in
# memory and hands over to /run/first there. A command that fails ends this script, and that the machine.
set -e
. /places
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in /modules/*; do $busybox insmod "$module"; done

# 500 KiB are what virtio carries in one request.
ninep=trans=virtio,version=9p2000.L,msize=512000
$busybox mount -t 9p -o $ninep,ro,cache=loose host /lower
$busybox mount -t tmpfs memory /memory
$busybox mkdir /memory/upper /memory/work
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root

$busybox hostname weave-vm
for folder in proc sys dev run lib/modules; do $busybox mkdir -p /root/$folder; done
for folder in proc sys dev; do $busybox mount --move /$folder /root/$folder; done
$busybox mount -t tmpfs run /root/run
$busybox mkdir -p /root/run/netns /root/dev/pts /root/dev/shm
$busybox mount -t devpts devpts /root/dev/pts
$busybox mount -t tmpfs shm /root/dev/shm
# Its module is loaded when it is opened, but that needs a name.
$busybox mkdir /root/dev/net
$busybox mknod /root/dev/net/tun c 10 200
$busybox ln -sf /proc/self/fd /root/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    $busybox ln -sf /proc/self/fd/${number%:*} /root/dev/${number#*:}
done
$busybox mount --bind "/lower$modules" /root/lib/modules
$busybox mkdir -p "/root$shared"
$busybox mount -t 9p -o $ninep shared "/root$shared"
$busybox cp /first /command /root/run/
# Not chroot: the kernel starts modprobe in the root of process 1.
exec $busybox switch_root /root /bin/sh /run/first
