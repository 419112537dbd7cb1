#!/usr/bin/env bash
# A stranger's first minutes, timed: a Debian 12 with nothing but python3 and make, a clean clone of HEAD, `make run`,
# a subscription, an event, and its arrival, signed. By hand, as root, with debootstrap installed:
#
#   tests/system/fresh_debian.sh [BASE]
#
# BASE is a folder that keeps the bare Debian between calls (made if it is not there); each call works on a copy.
# The fresh machine reaches Debian's mirror and the package index the way this one does: resolver, apt and pip
# settings and certificates are handed in. It shares this machine's network, so the daemon's port must be free.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
base=${1:-/var/tmp/econeura-fresh-debian}
url=http://127.0.0.1:3001

say() { printf '\n== %s\n' "$*"; }
die() { printf 'fresh_debian: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "needs root, for debootstrap and chroot"
command -v debootstrap > /dev/null || die "needs debootstrap: apt-get install debootstrap"
if (exec 3<> /dev/tcp/127.0.0.1/3001) 2> /dev/null; then die "something listens on $url already"; fi

if [ ! -e "$base/etc/debian_version" ]; then
    say "bootstrapping a bare Debian 12 in $base"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 '/debian$' || true)
    debootstrap --variant=minbase --include=python3,make bookworm "$base" ${mirror:+"$mirror"} > "$base.log" 2>&1 \
        || die "debootstrap failed: $base.log"
fi

fresh=$(mktemp -d /var/tmp/econeura-fresh.XXXXXX)
inside=
listening=
finish() {
    for process in $inside $listening; do  # their process namespaces end with them
        kill -KILL "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    rm -rf --one-file-system "$fresh"
}
trap finish EXIT
cp -a "$base/." "$fresh"

# The way out, as this machine knows it.
cp -L /etc/resolv.conf "$fresh/etc/resolv.conf"
rm -rf "$fresh/etc/apt/sources.list" "$fresh/etc/apt/sources.list.d"
for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/pip.conf /usr/local/share/ca-certificates; do
    [ ! -e "$path" ] || { mkdir -p "$fresh${path%/*}"; cp -a "$path" "$fresh${path%/*}/"; }
done
cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$fresh/etc/host-ca.crt"
handed=(PIP_CERT=/etc/host-ca.crt)
for name in PIP_INDEX_URL http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || handed+=("$name=${!name}")
done

say "cloning $(git -C "$root" rev-parse --short HEAD)"
useradd --root "$fresh" --create-home --uid 1234 --shell /bin/bash new 2> /dev/null
git clone --quiet "file://$root" "$fresh/srv/econeura daemon"  # a space in the path is nothing unusual
chown -R 1234:1234 "$fresh/srv"

# Everything inside lives in a mount and process namespace of its own: no mount of it is seen or left behind here.
# Replaces the shell that calls it, so that what runs in the background is unshare itself.
enter() {
    exec unshare --mount --pid --fork --kill-child --propagation private -- bash -c '
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev"
        chroot "$0" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LANG=C.UTF-8 "$@" &
        wait $!  # the namespace has an init of its own, so that make is a process like any other
    ' "$fresh" "${handed[@]}" "$@"
}

inside_make=(make -C "/srv/econeura daemon" run)

# Start the daemon inside and wait until it is ready.
start() {
    enter HOME=/root "$@" > "$fresh/daemon.log" 2>&1 < /dev/null &
    inside=$!
    until [ "$(status)" = 200 ]; do
        kill -0 "$inside" 2> /dev/null || { cat "$fresh/daemon.log"; die "the daemon ended"; }
        sleep 0.2
    done
}
status() { curl --silent --output /dev/null --write-out '%{http_code}' "$url/readyz" || true; }

# SIGTERM to make, the child of the namespace's init; make hands it on.
stop() {
    kill -TERM "$(pgrep --parent "$(pgrep --parent "$inside")")"
    wait "$inside" && code=0 || code=$?
    inside=
    echo "make ended with $code"
    tail -n 3 "$fresh/daemon.log"
}

say "as a user: what is missing is said"
! (enter HOME=/home/new setpriv --reuid 1234 --regid 1234 --clear-groups "${inside_make[@]}") \
    > "$fresh/refusal" 2>&1 || die "make run did not refuse without python3-venv"
grep -q 'sudo apt-get update && sudo apt-get install -y python3.11-venv' "$fresh/refusal" || die "$(cat "$fresh/refusal")"
cat "$fresh/refusal"

say "as root: make run"
started=$(date +%s.%N)
since() { awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'; }
start "${inside_make[@]}"
echo "ready after $(since)"

# The rest is typed in a second shell on the same machine.
shell() { enter HOME=/root bash -c 'cd "/srv/econeura daemon" && exec "$@"' - "$@"; }

say "a receiver that subscribes itself, an event, its arrival"
shell .venv/bin/econeura-daemon webhooks listen --subscribe 'order.*' > "$fresh/received" 2>&1 &
listening=$!
until curl --silent "$url/v1/webhooks/subscriptions" | grep -q '"sub_'; do
    kill -0 "$listening" 2> /dev/null || { cat "$fresh/received"; die "the receiver ended"; }
    sleep 0.1
done
curl --silent --show-error --fail-with-body "$url/v1/events" \
    --header 'Content-Type: application/json' --data '{"type": "order.paid", "data": {"order": 42}}'
echo
until grep -q 'order\.paid' "$fresh/received"; do sleep 0.1; done
say "first webhook delivered $(since) after typing make run"
cat "$fresh/received"
curl --silent "$url/v1/webhooks/stats"
echo

say "SIGTERM"
stop

say "make run again, with no resolver and no index"
rm "$fresh/etc/resolv.conf"
handed+=(PIP_INDEX_URL=http://127.0.0.1:9)
started=$(date +%s.%N)
start "${inside_make[@]}"
echo "ready after $(since)"
stop
