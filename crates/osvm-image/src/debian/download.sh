# Downloads packages, and all that an empty system would need for them, by the apt of the image that this runs in.
# Arguments: the packages. Input: certificates to trust, or nothing. Output: a tar archive of `packages`, which is what apt
# says of the install, and of the files that it names. When it exits with 1, the last line `error: ...` says why.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

work=/var/tmp/osvm
mkdir -p "$work/archives/partial" /var/lib/apt/lists/partial
# What is installed: nothing.
: >"$work/status"
cat >"$work/certificates"

say() { printf '%s\n' "$*" >&2; }

# fail WHAT: the errors among what apt said, or its last words.
fail() {
    reason=$(sed -n 's/^E: //p' "$work/said" | tail -n 3 | tr '\n' ' ')
    [ -n "$reason" ] || reason=$(tail -n 3 "$work/said" | tr '\n' ' ')
    say "error: $1: ${reason% }"
    exit 1
}

apt() {
    command="apt-get --yes --quiet"
    # Otherwise those that the image has.
    [ ! -s "$work/certificates" ] || command="$command -o Acquire::https::CAInfo=$work/certificates"
    $command -o "Dir::State::status=$work/status" -o "Dir::State::extended_states=$work/extended" \
        -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives" -o "Dir::Log=$work" \
        -o APT::Install-Recommends=0 -o APT::Install-Suggests=0 -o APT::Update::Error-Mode=any \
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1 -o APT::Sandbox::User= "$@"
}

command -v apt-get >/dev/null || { say "error: download packages: the base image has no apt-get"; exit 1; }
say "reading the lists of packages"
apt update >"$work/said" 2>&1 || fail "read the lists of packages"
apt install --simulate -- "$@" >"$work/packages" 2>"$work/said" || fail "choose packages"
say "downloading $(grep -c '^Inst ' "$work/packages") packages"
apt install --download-only -- "$@" >"$work/said" 2>&1 || fail "download packages"
cd "$work/archives" && mv ../packages . || exit 1
tar --create --file=- --format=gnu -- packages *.deb 2>"$work/said" || fail "hand over the packages"
