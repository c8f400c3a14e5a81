#!/bin/busybox sh
# /init of the initramfs images. The kernel command line chooses:
#   (nothing)               an interactive shell on the console; leaving it powers off
#   vedette.run=NAME[,NAME] runs /tests/NAME (a program or shell script) and powers off
#   vedette.off=halt        ends with a halt instead of a power-off
# Everything a test driver waits for is on a line of its own that starts with "VEDETTE ".
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
PATH=/bin
HOME=/root
export PATH HOME
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
hostname vedette

run=
off=poweroff
for word in $(cat /proc/cmdline); do
    case $word in
    vedette.run=*) run=${word#*=} ;;
    vedette.off=halt) off=halt ;;
    esac
done

finish() {
    echo "VEDETTE off"
    "$off" -f
    sleep 1000
}

if [ -z "$run" ]; then
    # The console that the kernel chose last is the one a person looks at.
    tty=$(sed 's/.* //' /sys/class/tty/console/active)
    echo "VEDETTE shell on $tty, Linux $(uname -r) $(uname -m)"
    setsid sh -c "exec sh -l <>/dev/$tty >&0 2>&1"
    finish
fi
# Test output must not be interrupted by kernel messages below warning.
echo 5 >/proc/sys/kernel/printk
for name in $(echo "$run" | tr ',' ' '); do
    echo "VEDETTE begin $name"
    if [ -x "/tests/$name" ]; then
        "/tests/$name"
        echo "VEDETTE end $name $?"
    else
        echo "VEDETTE end $name 127"
    fi
done
finish
