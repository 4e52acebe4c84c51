#!/bin/sh
# base.sh KERNEL MIRROR SECURITY SUITE: from debootstrap's minimal Debian to one that boots, inside the image.
# The file "depends" beside it is the Depends field of csagent's package: with that in place the package
# itself needs no network.
set -eu
kernel=$1
mirror=$2
security=$3
suite=$4
depends=$(cat "$(dirname "$0")/depends")

export DEBIAN_FRONTEND=noninteractive
printf '%s\n' "deb $mirror $suite main" "deb $mirror $suite-updates main" \
    "deb $security $suite-security main" >/etc/apt/sources.list
# There is no disk yet to put GRUB on; bootloader.sh does that.
echo "grub-pc grub-pc/install_devices_empty boolean true" | debconf-set-selections

apt-get update -qq
apt-get upgrade -y -qq
# fdisk, jinja2, requests and sudo are for user-data: its disks, templates, includes and accounts.
# tests/system/test_image_recipes.py compares this list with mkosi/mkosi.conf.
apt-get install -y -qq --no-install-recommends \
    "$kernel" \
    ca-certificates \
    dbus \
    e2fsprogs \
    fdisk \
    grub-pc \
    initramfs-tools \
    iproute2 \
    less \
    nano \
    openssh-server \
    python3-jinja2 \
    python3-requests \
    sudo \
    systemd-sysv \
    systemd-timesyncd \
    udev \
    zstd
# Root's partition grows by it; a package of its own from Debian 13 on.
if apt-cache show systemd-repart >/dev/null 2>&1; then
    apt-get install -y -qq --no-install-recommends systemd-repart
fi
apt-get satisfy -y -qq --no-install-recommends "$depends"
# Last: it turns resolv.conf into a link that leads nowhere until the image runs.
apt-get install -y -qq --no-install-recommends systemd-resolved
apt-get clean
rm -rf /var/lib/apt/lists/*
