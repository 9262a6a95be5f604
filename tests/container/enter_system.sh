#!/usr/bin/env bash
# Run a command as an unprivileged user of another system's folder, with WORK seen there as /job.
#   enter_system.sh SYSTEM WORK UID FOLDER [NAME=VALUE ...] COMMAND ...
# A chroot would not do: the kernel bars user namespaces, which Apptainer needs, in it. So the system becomes the root of
# a mount namespace, which takes all its mounts with it when the command ends.
set -euo pipefail
export SYSTEM=$1 WORK=$2 USER_ID=$3 FOLDER=$4
shift 4
exec unshare --mount --propagation private bash -euc '
    mount --bind "$SYSTEM" "$SYSTEM"
    cd "$SYSTEM"
    # Devices of its own: /dev/fuse must be open to all, which is not for us to change outside.
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
        IFS=: read -r name major minor <<< "$device"
        mknod -m 666 "dev/$name" c "$major" "$minor"
    done
    mkdir dev/shm dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"; done
    mount -t proc proc proc
    mount --rbind /sys sys
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mkdir -p job .outside
    mount --bind "$WORK" job
    pivot_root . .outside
    umount -l /.outside
    cd "$FOLDER"
    exec setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/job/home LC_ALL=C.UTF-8 "$@"' enter "$@"
