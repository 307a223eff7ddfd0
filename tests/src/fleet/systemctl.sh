#!/bin/sh
# Stands for systemd where there is none: does what a unit says about users,
# directories, credentials and commands. What only systemd can do, the
# sandbox above all, is left out.
set -eu
units=/etc/systemd/system
state=/run/units
mkdir -p "$state"

get() { sed -n "s/^$2=//p" "$units/$1.service"; }

running() { [ -f "$state/$1.pid" ] && kill -0 "$(cat "$state/$1.pid")" 2>/dev/null; }

start() {
    case $1 in *.timer) [ -f "$units/$1" ] || exit 5; return ;; esac
    unit=${1%.service}
    [ -f "$units/$unit.service" ] || { echo "Unit $1 not found." >&2; exit 5; }
    if [ "$(get "$unit" Type)" = oneshot ]; then
        # /bin/systemctl is not ours.
        get "$unit" ExecStart | sed 's|^/bin/||' >"$state/$unit.sh"
        sh -e "$state/$unit.sh"
        return
    fi
    running "$unit" && return
    user=$(get "$unit" User)
    [ -n "$user" ] || { [ "$(get "$unit" DynamicUser)" = yes ] && user=nobody; }
    uid=$(id -u "$user") gid=$(id -g "$user")
    for dir in $(get "$unit" StateDirectory); do install -d -o "$uid" -g "$gid" -m 700 "/var/lib/$dir"; done
    for dir in $(get "$unit" RuntimeDirectory); do install -d -o "$uid" -g "$gid" -m 755 "/run/$dir"; done
    credentials=/run/credentials/$unit
    rm -rf "$credentials"
    install -d -o "$uid" -g "$gid" -m 500 "$credentials"
    get "$unit" LoadCredential | while IFS=: read -r name path; do
        install -o "$uid" -g "$gid" -m 400 "$path" "$credentials/$name"
    done
    : >"$state/$unit.log"
    # shellcheck disable=SC2046
    CREDENTIALS_DIRECTORY=$credentials setsid setpriv --reuid "$uid" --regid "$gid" --clear-groups \
        --no-new-privs --bounding-set -all $(get "$unit" ExecStart) >>"$state/$unit.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$state/$unit.pid"
    # As Type=notify waits for READY=1.
    tries=300
    until grep -q ' listening\| started' "$state/$unit.log"; do
        kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ] || { cat "$state/$unit.log" >&2; exit 1; }
        tries=$((tries - 1))
        sleep 0.1
    done
}

stop() {
    unit=${1%.service}
    running "$unit" || return 0
    pid=$(cat "$state/$unit.pid")
    kill -TERM "$pid"
    tries=300
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    rm -f "$state/$unit.pid"
}

command=$1
shift
[ "${1:-}" = --now ] && shift
case $command in
daemon-reload) ;;
enable | start) for name in "$@"; do start "$name"; done ;;
stop | disable) for name in "$@"; do stop "$name"; done ;;
restart) for name in "$@"; do stop "$name"; start "$name"; done ;;
reload | try-reload-or-restart)
    for name in "$@"; do
        unit=${name%.service}
        if running "$unit"; then kill -HUP "$(cat "$state/$unit.pid")"; fi
    done
    ;;
*) echo "no such command here: $command" >&2; exit 64 ;;
esac
