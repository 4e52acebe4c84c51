#!/bin/sh
# configure-debian.sh ROOT-TYPE: what a Debian made from scratch needs to live on CloudStack. Runs inside the image.
#
# For the recipes that begin with nothing (debos, mkosi). A distribution's cloud image has all of this.
# ROOT-TYPE is the type of the root partition, in systemd-repart's words ("root", "linux-generic").
set -eu
root_type=$1

# Any number of NICs, whatever the hypervisor calls them. CloudStack assigns addresses by MAC, and
# systemd's own client identifier (a DUID) would change its meaning with each new machine-id.
cat >/etc/systemd/network/80-dhcp.network <<'END'
[Match]
Type=ether
Kind=!*

[Network]
DHCP=yes

[DHCPv4]
ClientIdentifier=mac
END
systemctl enable systemd-networkd.service systemd-resolved.service ssh.service
# Nothing here may hold up the boot: a VM without a network still has to get its config drive's data.
systemctl disable systemd-networkd-wait-online.service 2>/dev/null || true

# The root disk of an offering is often larger than the template: partition and file system grow at
# each boot to what there is. No cloud-init, no growpart.
mkdir -p /etc/repart.d
printf '%s\n' '[Partition]' "Type=$root_type" >/etc/repart.d/50-root.conf

# Keys for root, no password over SSH: Debian's default, spelled out since a template depends on it.
# Passwords that CloudStack sets work on the console; see packaging/image/README.md for SSH.
mkdir -p /etc/ssh/sshd_config.d
printf '%s\n' 'PermitRootLogin prohibit-password' >/etc/ssh/sshd_config.d/50-template.conf

printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost ip6-loopback' >/etc/hosts
echo localhost >/etc/hostname
chmod 644 /etc/hosts /etc/hostname
passwd --quiet --lock root
