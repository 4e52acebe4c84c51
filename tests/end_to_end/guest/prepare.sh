#!/bin/sh
# The last step of the recipe for the end-to-end test; @AGENT@ and other words are put in by images.py.
# What the documents rest on, the same for both agents; then the agent, and its own way of a clean template.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

apt-get update -qq
apt-get install -y -qq --no-install-recommends @PACKAGES@
apt-get clean
rm -rf /var/lib/apt/lists/*

sed '1,/^__FILES__$/d' "$0" | base64 -d | tar -C / -x
sh /usr/lib/end-to-end/local-repository ''
systemctl --quiet enable look.service
systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer

case @AGENT@ in
csagent)
    sh "$here/recipe-install.sh" "$@"
    ;;
cloud-init)
    # The recipe turns it off; without it cloud-init looks for CloudStack before there is a lease.
    systemctl --quiet enable systemd-networkd-wait-online.service
    cloud-init clean --logs --machine-id
    # What it writes where systemd runs; in a chroot it removes the file, and the machine does not boot.
    echo uninitialized >/etc/machine-id
    ;;
esac
exit 0
__FILES__
