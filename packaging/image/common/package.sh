# Sourced by the recipes' build scripts, which set $here: which packages go into the image.
# shellcheck shell=sh

# newest PATTERN [FIND-WORD...]: the newest file in dist/ of this checkout of such a name, as an absolute path.
newest() {
    pattern=$1
    shift
    # shellcheck disable=SC2154 # who sources this sets it
    find "$here/../../../dist" -name "$pattern" "$@" -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1 |
        cut -d ' ' -f 2- | xargs -r realpath
}

# needs PROGRAM PACKAGE: end here where a program is missing, with the package of Debian's that has it.
needs() {
    command -v "$1" >/dev/null || { echo "this recipe needs $1 (Debian: apt install $2)" >&2; exit 1; }
}

# choose_deb [FILE]: FILE if it is given, else the newest .deb in dist/. Prints its absolute path.
choose_deb() {
    chosen=${1:-$(newest 'csagent_*.deb')}
    [ -n "$chosen" ] || {
        echo "no csagent .deb in dist/: run ./dev package, or give one with --package" >&2
        return 1
    }
    [ -r "$chosen" ] || { echo "no such package: $chosen" >&2; return 1; }
    realpath "$chosen"
}

# stage_packages DIRECTORY [FILE...]: what install.sh needs, in one directory: itself, the packages (default:
# the newest of each kind in dist/) and the file "packages" with their names.
stage_packages() {
    stage=$1
    shift
    if [ $# -eq 0 ]; then
        set -- "$(newest 'csagent_*.deb')" "$(newest 'csagent-pycdlib-*.rpm')" \
            "$(newest 'csagent-[0-9]*.noarch.rpm' ! -name '*.el8.*')" "$(newest 'csagent-[0-9]*.el8.noarch.rpm')"
    fi
    cp "$here/../common/install.sh" "$stage/"
    : >"$stage/packages"
    for file in "$@"; do
        [ -n "$file" ] || continue
        [ -r "$file" ] || { echo "no such package: $file" >&2; return 1; }
        cp "$file" "$stage/"
        echo "${file##*/}" >>"$stage/packages"
    done
    [ -s "$stage/packages" ] || {
        echo "no package of csagent in dist/: run ./dev package, or give one with --package" >&2
        return 1
    }
}
