#!/.lab/busybox sh
# The lab's first process, from the initramfs: finds the host's root file system and hands over to
# run.sh in it. Whatever fails ends the lab: the console's log tells where.
set -e
B=/.lab/busybox

$B mkdir -p /proc /sys /dev /host /memory /new
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in /.osvm/modules/*.ko; do
    $B insmod "$module"
done

# The host's files, read-only, below memory that takes whatever is written.
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose root /host
$B mount -t tmpfs -o size=75% memory /memory
$B mkdir /memory/upper /memory/work
$B mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /new

$B mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp
$B mount -t tmpfs -o mode=0755 run /new/run
$B mount -t tmpfs -o mode=1777 tmp /new/tmp
$B mkdir /new/run/lab
$B cp /.lab/* /new/run/lab
for view in proc sys dev; do
    $B mount --move "/$view" "/new/$view"
done
exec $B switch_root /new /run/lab/busybox sh /run/lab/run.sh
