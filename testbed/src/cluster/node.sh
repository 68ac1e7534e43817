# First process of a node: makes the node's root, then lives as long as the node.
# STATE is the folder of the cluster, NODE the name, GATEWAY the host outside, PROGRAMS folders.
set -eu
mount --make-rprivate /
home=$STATE/nodes/$NODE

# The root is this machine's under a layer in memory: what is written there is lost at a reboot.
mkdir -p "$home/root"
mount -t tmpfs -o mode=755 tmpfs "$home/root"
cd "$home/root"
mkdir upper work merged
mount -t overlay -o "lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work" overlay merged
cd merged
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock cluster

# Its disk, which outlives a reboot.
for folder in etc/cni opt var/lib var/log; do
    mkdir -p "$home/disk/$folder" "$folder"
    mount --bind "$home/disk/$folder" "$folder"
done
mkdir -p opt/cni/bin etc/cni/net.d var/lib/kubelet var/lib/containerd
[ -e opt/cni/bin/loopback ] || cp /usr/lib/cni/* opt/cni/bin

# What it has from outside: the cluster's folder, and programs in the order they are searched.
mount --bind "$STATE" cluster
number=0
for folder in $PROGRAMS; do
    mkdir -p programs/$number
    mount --bind "$folder" programs/$number
    number=$((number + 1))
done

# kubelet sets these for the whole machine, unless they are what it wants.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    covered=proc/sys/${setting%=*}
    cover=run/setting-$(echo "${setting%=*}" | tr / -)
    echo "${setting#*=}" > "$cover"
    mount --bind "$cover" "$covered"
done

rm -f etc/machine-id etc/resolv.conf etc/hosts
echo "weave-cluster-$NODE" | md5sum | cut -c 1-32 > etc/machine-id
echo "nameserver $GATEWAY" > etc/resolv.conf
cp "$STATE/hosts" etc/hosts

mkdir previous
pivot_root . previous
cd /
umount -l previous
rmdir previous
mount --make-rshared /

hostname "$NODE"
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
touch "/cluster/nodes/$NODE/up"
