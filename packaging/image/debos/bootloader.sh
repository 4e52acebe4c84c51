#!/bin/sh
# bootloader.sh DISK: GRUB for BIOS, which is what CloudStack's hypervisors boot with unless told otherwise.
# Runs inside the image, on the file system that will boot.
set -eu
disk=$1

# The console that `virsh console` and CloudStack's serial port show, and the one of the web interface.
mkdir -p /etc/default/grub.d
cat >/etc/default/grub.d/50-template.cfg <<'END'
GRUB_TIMEOUT=1
GRUB_DISABLE_OS_PROBER=true
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
END

grub-install --target=i386-pc --no-floppy "$disk"

# update-grub writes root=UUID=... only where udev has made this link. In a container nobody has.
uuid=$(grub-probe --target=fs_uuid /)
link=/dev/disk/by-uuid/$uuid
made=
if [ ! -e "$link" ]; then
    mkdir -p /dev/disk/by-uuid
    ln -s "$(grub-probe --target=device /)" "$link"
    made=$link
fi
update-grub
[ -z "$made" ] || rm -f "$made"
grep -q "root=UUID=$uuid" /boot/grub/grub.cfg || {
    echo "bootloader.sh: grub.cfg does not name the root file system by its UUID" >&2
    exit 1
}
