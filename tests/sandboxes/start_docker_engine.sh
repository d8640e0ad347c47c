#!/usr/bin/env bash
# A Docker engine and a base image for the tests marked `docker`, on a bare Debian machine, as root, without a registry.
# Idempotent. Prints two lines for `eval`: DOCKER_HOST and FORETHOUGHT_DOCKER_BASE (an image with /usr/bin/python3).
#
#   eval "$(tests/sandboxes/start_docker_engine.sh)" && pytest -m docker tests/sandboxes
set -euo pipefail
ROOT=${FORETHOUGHT_DOCKER_ROOT:-${TMPDIR:-/tmp}/forethought-docker}
BASE=${FORETHOUGHT_DOCKER_BASE:-forethought-base:latest}
HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
say() { echo "$*" >&2; }
answers() { docker -H "$1" version --format '{{.Server.Version}}' >/dev/null 2>&1; }

missing=()
command -v docker >/dev/null && command -v dockerd >/dev/null || missing+=(docker.io)
command -v debootstrap >/dev/null || missing+=(debootstrap)
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    # The package would start a service, for which there may be no init system here: exit status 101 forbids it.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    if [ -n "$(trap -p EXIT)" ]; then
        rm -f /usr/sbin/policy-rc.d
        trap - EXIT
    fi
fi

if ! answers "$HOST"; then
    HOST=unix://$ROOT/docker.sock
fi
if ! answers "$HOST"; then
    mkdir -p "$ROOT"
    chmod 700 "$ROOT"
    for driver in overlay2 vfs; do
        say "starting dockerd ($driver) on $HOST"
        rm -f "$ROOT/docker.pid"
        setsid dockerd --data-root "$ROOT/data-$driver" --exec-root "$ROOT/exec" --pidfile "$ROOT/docker.pid" \
            --host "$HOST" --storage-driver "$driver" --iptables=false --ip6tables=false --bridge=none \
            --default-cgroupns-mode private >"$ROOT/dockerd.log" 2>&1 </dev/null &
        engine=$!
        for _ in $(seq 100); do
            if answers "$HOST"; then break 2; fi
            kill -0 "$engine" 2>/dev/null || break
            sleep 0.2
        done
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    done
    if ! answers "$HOST"; then
        say "no engine came up; the end of $ROOT/dockerd.log:"
        tail -n 5 "$ROOT/dockerd.log" >&2
        exit 1
    fi
fi

if ! docker -H "$HOST" image inspect "$BASE" >/dev/null 2>&1; then
    say "making $BASE with debootstrap"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include=python3-minimal,libpython3-stdlib \
        "${FORETHOUGHT_DEBIAN_SUITE:-bookworm}" "$work/root" ${FORETHOUGHT_DEBIAN_MIRROR:+"$FORETHOUGHT_DEBIAN_MIRROR"} \
        >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale}
    tar -C "$work/root" --numeric-owner -c . | docker -H "$HOST" import - "$BASE" >/dev/null
fi
echo "export DOCKER_HOST=$HOST"
echo "export FORETHOUGHT_DOCKER_BASE=$BASE"
