#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs what a host needs to run `cargo xtask vmtest`. It can be run any number of times: it checks first,
# lists what it is about to install, and does nothing if everything is installed. Tools that build kernels are
# not installed on the host: they are in the build root that the harness makes (`--toolchain-host` is the
# exception).
#
# `cargo xtask doctor` checks more than this, but needs cargo.

set -euo pipefail
# Messages of other programs and of apt are matched here and searched for in logs: no translations.
export LC_ALL=C

usage() {
    cat <<'END'
Usage: scripts/setup.sh [--check] [--ci] [--tests] [--toolchain-host]

Installs what `cargo xtask vmtest` needs on this host: Debian and Ubuntu by
apt-get (through sudo unless root); for Fedora and Arch it names the packages.
The one thing it does not install is Rust, 1.85 or newer.

  --check            only look; exit 1 if something is missing
  --ci               for the throw-away machines of a CI system: never asks,
                     lifts Ubuntu's limit on user namespaces, opens /dev/kvm;
                     implies --tests
  --tests            also the programs that the project's own tests give
                     reports, completions and man pages to: a browser,
                     shells, validators, linters (`cargo xtask test`)
  --toolchain-host   also what `vmtest --toolchain host` needs: compilers,
                     pahole and QEMU of the host instead of those in the
                     build root
  --help             this text
END
}

say() { printf '%s\n' "setup: $*"; }
complain() { printf '%s\n' "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

check=false ci=false interop=false toolchain_host=false
for argument in "$@"; do
    case $argument in
        --check) check=true ;;
        --ci) ci=true interop=true ;;
        --tests | --interop) interop=true ;;
        --toolchain-host) toolchain_host=true ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            complain "unknown option '$argument'; --help names them"
            exit 2
            ;;
    esac
done

# An installed program (`cargo xtask install`) has the harness and the runner already: nothing is compiled on the host.
installed=false program='cargo xtask'
if [[ -x $(dirname "${BASH_SOURCE[0]}")/../bin/kmatrix ]]; then installed=true program=kmatrix; fi

# --- The host: distribution, user -----------------------------------------------------------------------------------

family=unknown
if [[ -r /etc/os-release ]]; then
    # A subshell, because the file sets NAME, VERSION and other variables.
    # shellcheck source=/dev/null
    ids=$(. /etc/os-release && printf ' %s %s ' "${ID:-}" "${ID_LIKE:-}")
    case $ids in
        *' debian '* | *' ubuntu '*) family=debian ;;
        *' fedora '* | *' rhel '*) family=fedora ;;
        *' arch '*) family=arch ;;
    esac
fi

user=$(id -un)
if ((EUID == 0)); then
    as_root=()
elif has sudo; then
    as_root=(sudo)
    # In a CI job a password prompt would hang.
    if $ci; then as_root=(sudo -n); fi
else
    as_root=(false)
fi

# --- What is missing -------------------------------------------------------------------------------------------------

# packages: by their names on this host's family, in the order found. trouble: problems that no package fixes.
packages=() trouble=() notes=()

# need DEBIAN FEDORA ARCH PROBE..: adds the package unless the probe succeeds. "-": no such package.
need() {
    local debian=$1 fedora=$2 arch=$3 name
    shift 3
    if "$@"; then return; fi
    case $family in
        fedora) name=$fedora ;;
        arch) name=$arch ;;
        *) name=$debian ;;
    esac
    if [[ $name != - && " ${packages[*]-} " != *" $name "* ]]; then packages+=("$name"); fi
}

# Whether this file is in a library directory of the linker: Debian's multiarch directory, Fedora's or Arch's.
has_library() {
    local dir
    for dir in "/usr/lib/$(uname -m)-linux-gnu" /usr/lib64 /usr/lib; do
        if [[ -e $dir/$1 ]]; then return 0; fi
    done
    return 1
}

has_static_elf() { [[ -e /usr/include/libelf.h ]] && has_library libelf.a; }
has_static_zlib() { [[ -e /usr/include/zlib.h ]] && has_library libz.a; }
has_keyring() {
    [[ -e /usr/share/keyrings/debian-archive-keyring.gpg || -e /usr/share/keyrings/debian-archive-keyring.pgp ]]
}
# An import is four times as fast as `-m pip --version`.
has_pip() { has python3 && python3 -c 'import pip' >/dev/null 2>&1; }
# Installed for Debian's python3, but another python3 may come first on PATH.
has_junitparser() {
    local python
    for python in /usr/bin/python3 python3; do
        if "$python" -c 'import junitparser' >/dev/null 2>&1; then return; fi
    done
    return 1
}
has_id_maps() { has newuidmap && has newgidmap; }
has_apt() { has apt-get; }
has_browser() { has chromium || has chromium-browser || has google-chrome; }
is_ubuntu() { [[ ${ids:-} == *' ubuntu '* ]]; }

# True when VERSION (MAJOR.MINOR..) is at least MAJOR.MINOR.
at_least() {
    local major minor
    IFS=. read -r major minor _ <<<"$1"
    [[ $major =~ ^[0-9]+$ && ${minor:=0} =~ ^[0-9]+$ ]] || return 1
    ((major > $2 || (major == $2 && minor >= $3)))
}

# The first dotted number in the version output of a program.
version_of() {
    local text
    text=$("$@" 2>/dev/null) || return 1
    [[ $text =~ [0-9]+(\.[0-9]+)+ ]] && printf '%s' "${BASH_REMATCH[0]}"
}

look() {
    packages=() trouble=() notes=()
    need bubblewrap bubblewrap bubblewrap has bwrap
    need mmdebstrap mmdebstrap mmdebstrap has mmdebstrap
    need uidmap shadow-utils shadow has_id_maps
    need debian-archive-keyring debian-keyring debian-archive-keyring has_keyring
    need apt apt apt has_apt
    need git git git has git
    need tar tar tar has tar
    need xz-utils xz xz has xz
    need python3-pip python3-pip python-pip has_pip
    if ! $installed; then
        # Cargo links with cc; the guest's runner is linked statically, hence the *.a files.
        need gcc gcc gcc has cc
        need libc6-dev glibc-static glibc has_library libc.a
        need clang clang clang has clang
        need make make make has make
        need pkg-config pkgconf-pkg-config pkgconf has pkg-config
        need libelf-dev elfutils-libelf-devel-static libelf has_static_elf
        need zlib1g-dev zlib-static zlib has_static_zlib
        # The project's tests run whole commands with `--toolchain host` and fakes of all but the headers.
        need libssl-dev openssl-devel openssl test -e /usr/include/openssl/ssl.h
    fi
    if $interop; then
        # A validator for XML, a TAP reader for KTAP.
        need libxml2-utils libxml2 libxml2 has xmllint
        need perl perl-Test-Harness perl has prove
        # A JUnit reader that CI systems use (no Arch package: `pip install junitparser`).
        need python3-junitparser python3-junitparser - has_junitparser
        # Shells for the completions, a reader for the man pages.
        need zsh zsh zsh has zsh
        need fish fish fish has fish
        need mandoc mandoc mandoc has mandoc
        # npm, for a linter and a parser of the workflows.
        need npm npm npm has npm
        # A browser for the HTML reports: half a minute, 450 MB. On Ubuntu it is only available as a snap;
        # that is not an error, since Ubuntu CI machines have Chrome.
        if ! is_ubuntu; then
            need chromium chromium chromium has_browser
        elif ! has_browser; then
            notes=("the tests of this project (not runs) need Chromium or Chrome: 'snap install chromium'")
        fi
    fi
    if $toolchain_host; then
        need gcc gcc gcc has gcc
        need make make make has make
        need libelf-dev elfutils-libelf-devel libelf test -e /usr/include/libelf.h
        need libssl-dev openssl-devel openssl test -e /usr/include/openssl/ssl.h
        need bc bc bc has bc
        need bison bison bison has bison
        need flex flex flex has flex
        need libdw-dev elfutils-devel libelf test -e /usr/include/dwarf.h
        need dwarves dwarves pahole has pahole
        need cpio cpio cpio has cpio
        need kmod kmod kmod has modinfo
        need rsync rsync rsync has rsync
        need lld lld lld has ld.lld
        need llvm llvm llvm has llvm-objcopy
        need ccache ccache ccache has ccache
        need qemu-system-x86 qemu-system-x86-core qemu-system-x86 has qemu-system-x86_64
        need busybox-static busybox busybox has busybox
    fi

    local version
    if $installed; then
        :
    elif ! has cargo; then
        trouble+=("Rust is not installed (1.85 or newer is needed). Get it with rustup: https://rustup.rs")
    elif ! version=$(version_of cargo --version); then
        trouble+=("'cargo --version' fails: $(cargo --version 2>&1 | head -n 1)")
    elif ! at_least "$version" 1 85; then
        trouble+=("cargo $version at $(command -v cargo) is older than 1.85. With rustup: 'rustup update stable';
       without it, install rustup (https://rustup.rs) and remove the distribution's cargo")
    fi
    if ! $installed && has clang && version=$(version_of clang --version) && ! at_least "$version" 14 0; then
        trouble+=("clang $version is older than 14, which BPF programs need: install a newer one as 'clang'")
    fi
    if $toolchain_host && ! has vng; then
        trouble+=("virtme-ng (vng) is not on PATH; --toolchain host takes yours: 'pipx install virtme-ng'")
    fi
}

# These checks only work after the packages are installed.
look_at_permissions() {
    trouble_after=()
    if ((EUID != 0)) && has newuidmap; then
        local uid file
        uid=$(id -u)
        for file in /etc/subuid /etc/subgid; do
            if ! grep -qsE "^($user|$uid):" "$file"; then
                trouble_after+=("$user has no range in $file, which making the build root needs:
       sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $user")
                break
            fi
        done
    fi
    local message
    if has bwrap && ! message=$(bwrap --ro-bind / / --unshare-pid --unshare-net --die-with-parent \
        --proc /proc --dev /dev true 2>&1); then
        trouble_after+=("the sandbox cannot be opened: ${message%%$'\n'*}
       '$program doctor' says why and how to fix it")
    fi
}

# --- Installing ----------------------------------------------------------------------------------------------------

lists_updated=false
update_lists() {
    if $lists_updated; then return 1; fi
    lists_updated=true
    "${as_root[@]}" apt-get update -qq
}

apt_install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --no-install-recommends --yes "$@" </dev/null
}

install_packages() {
    # Fails if a package is not in apt's lists, or if there are no lists.
    if ! apt-get install --simulate -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1; then
        update_lists
    fi
    # Old lists may name versions that the mirror no longer has.
    apt_install "${packages[@]}" || { update_lists && apt_install "${packages[@]}"; }
}

open_ci_host() {
    local limit=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
    if [[ -r $limit && $(<"$limit") != 0 ]]; then
        if "${as_root[@]}" sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0; then
            say "lifted AppArmor's limit on user namespaces (until the next boot)"
        else
            complain "could not lift AppArmor's limit on user namespaces"
        fi
    fi
    if [[ -e /dev/kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
        # Not through the group: membership takes effect at the next login, which a CI job does not have.
        if "${as_root[@]}" chmod a+rw /dev/kvm; then
            say "opened /dev/kvm to every user"
        else
            complain "could not open /dev/kvm: guests will be emulated"
        fi
    fi
}

report() {
    local line
    for line in "$@"; do complain "$line"; done
}

look
if ((${#packages[@]} > 0)); then
    if $check; then
        complain "missing packages: ${packages[*]}"
        complain "to install them: $0$($interop && echo ' --tests')$($toolchain_host && echo ' --toolchain-host')"
    elif [[ $family != debian ]]; then
        case $family in
            fedora) complain "install these: sudo dnf install ${packages[*]}" ;;
            arch) complain "install these: sudo pacman -S --needed ${packages[*]}
       Arch has no static libelf and zlib: build the runner on another host, or make them by hand" ;;
            *) complain "this distribution is unknown; the packages are called this in Debian: ${packages[*]}" ;;
        esac
        report "${trouble[@]}"
        exit 1
    elif [[ ${as_root[*]-} == false ]]; then
        complain "there is no sudo here; as root: apt-get install ${packages[*]}"
        report "${trouble[@]}"
        exit 1
    else
        say "will install: ${packages[*]}"
        install_packages
        look
        if ((${#packages[@]} > 0)); then
            complain "still missing after the installation: ${packages[*]}"
        fi
    fi
fi
if $ci && ! $check; then open_ci_host; fi
look_at_permissions

report "${trouble[@]}" "${trouble_after[@]}"
for note in "${notes[@]}"; do say "$note"; done
if ((${#packages[@]} + ${#trouble[@]} + ${#trouble_after[@]} > 0)); then
    exit 1
fi
say "everything is installed"

# The first `cargo xtask` would be silent for a minute or two: cargo compiles, and the alias tells it to be quiet.
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if ! $check && ! $installed && [[ -O $checkout/Cargo.lock ]] && has cargo; then
    say "compiling the harness, which takes a minute or two the first time"
    (cd "$checkout" && cargo build --locked --package xtask)
    say "next: cargo xtask doctor, cargo xtask vmtest, or cargo xtask install (README.md)"
fi
