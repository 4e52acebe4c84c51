#!/bin/sh
# install.sh PACKAGE...: put csagent into the image and leave the image a clean template.
#
# Every recipe runs this script, as root, inside the image (in a chroot, a container or the machine that
# is being made), and runs it last: it ends with `csagent seal`, after which nothing may write any more.
# PACKAGE is a path, or the name of a file beside this script. Of several, those for this system are
# taken: .deb or .rpm, and on EL 8 those of EL 8.
#
# $FORGET         a directory that goes before the image is sealed, such as that of the packages
# $SEAL_OPTIONS   words for `csagent seal`
# $SEAL=later     the recipe seals by itself
set -eu

die() { echo "install.sh: $*" >&2; exit 1; }

[ $# -gt 0 ] || { echo "usage: [SEAL_OPTIONS=...] install.sh PACKAGE..." >&2; exit 2; }
# shellcheck source=/dev/null
platform=$(. /etc/os-release && echo "${PLATFORM_ID:-}")
if command -v apt-get >/dev/null; then
    kind=deb
elif command -v dnf >/dev/null; then
    kind=rpm
else
    die "neither apt-get nor dnf here"
fi

suits() {
    case "$platform/$1" in
    platform:el8/*.el8.*.rpm | platform:el8/csagent-pycdlib-*.rpm) ;;
    platform:el8/* | *.el8.*) return 1 ;;
    esac
    [ "${1##*.}" = "$kind" ]
}

all=$*
for file in "$@"; do
    shift
    suits "${file##*/}" || continue
    [ -r "$file" ] || file=$(dirname "$0")/$file
    [ -r "$file" ] || die "no such package: $file"
    # Absolute: apt and dnf take what has no slash for a name in a repository.
    set -- "$@" "$(cd "$(dirname "$file")" && pwd)/${file##*/}"
done
[ $# -gt 0 ] || die "none of these is for this system (.$kind ${platform#platform:}): $all"

if [ "$kind" = deb ]; then
    export DEBIAN_FRONTEND=noninteractive
    # What the package recommends, for user-data: disks, templates, includes. dnf takes such by itself.
    set -- "$@" fdisk python3-jinja2 python3-requests
    # The lists are needed only where something that the package depends on is missing.
    if ! apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$@"
    fi
    apt-get clean
else
    dnf -y -q install "$@"
    dnf -q clean all
fi

# The .deb enables its units itself; an .rpm leaves that to the distribution's presets.
systemctl enable --quiet csagent.service csagent-host-keys.service csagent-console.path csagent-user-data.path
csagent --version

cd /
[ -z "${FORGET:-}" ] || rm -rf "$FORGET"
[ "${SEAL:-now}" = now ] || exit 0
# shellcheck disable=SC2086 # words
csagent seal --yes ${SEAL_OPTIONS:-}
