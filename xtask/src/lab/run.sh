# The lab's first process, in the host's root file system: completes the machine, runs the command
# with its streams on ports to the host, and powers off. A command that ends takes all it has
# started with it.
B=/run/lab/busybox

$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts -o newinstance,gid=5,mode=0620,ptmxmode=0666 pts /dev/pts
$B mount -t tmpfs -o mode=1777 shm /dev/shm
$B ln -sf /proc/self/fd /dev/fd
$B ln -sf /proc/self/fd/0 /dev/stdin
$B ln -sf /proc/self/fd/1 /dev/stdout
$B ln -sf /proc/self/fd/2 /dev/stderr
$B mount -t securityfs security /sys/kernel/security
$B mount -t cgroup2 cgroup /sys/fs/cgroup
for controller in $($B cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
# As most distributions have it: whoever may log in may use it.
$B chmod 0666 /dev/kvm
$B ip link set lo up
$B hostname lab
# What systemd gives every service.
ulimit -Hn 524288

# share DIR TAG: a folder of the host's that may be written.
share() {
    $B mkdir -p "$1"
    $B mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap "$2" "$1"
}

# port NAME: its device.
port() {
    for folder in /sys/class/virtio-ports/*; do
        [ "$($B cat "$folder/name")" = "$1" ] && echo "/dev/${folder##*/}"
    done
}

# A port opens only once at a time, and programs open /dev/stdout: they get pipes.
$B mkfifo /run/lab/stdout /run/lab/stderr
$B cat </run/lab/stdout >"$(port stdout)" &
stdout=$!
$B cat </run/lab/stderr >"$(port stderr)" &
stderr=$!
while read -r _; do echo; done <>"$(port pulse)" >&0 &

. /run/lab/job.sh
(run) </dev/null >/run/lab/stdout 2>/run/lab/stderr
status=$?

for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    case " 1 $stdout $stderr " in
    *" $pid "*) ;;
    *) kill -9 "$pid" 2>/dev/null ;;
    esac
done
wait "$stdout" "$stderr"
echo "$status" >"$(port status)"
$B poweroff -f
