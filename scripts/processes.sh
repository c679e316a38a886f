# shellcheck shell=bash
# The programs that `up` starts and `down` stops: where they are, whether they answer, who started them.
# Sourced by up, down and demo; does nothing by itself.
# shellcheck disable=SC2034  # the names below are used there

PLUGINS=(pynet pyvol)
SOCKETS=/run/docker/plugins
STARTED=/run/pynet-up # what `up` has started itself, other than the plugins
PYRUN_HOST=unix:///run/pyrun/pyrun.sock
PYRUN_LOG=/var/log/pyrun.log

# What speaks to the engine: the docker CLI or, without it, the commands of pyrun that are called the same.
if command -v docker >/dev/null; then
    CLI=docker
else
    CLI=pyrun
    PATH=$PATH:${VENV:-$(dirname "$here")/.venv}/bin
fi

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Root is needed for bridges, firewall rules, mounts and /run; $1 says for what.
need_root() {
    [ "$(id -u)" = 0 ] || die "cannot $1: only root may change links, firewall rules and mounts. Try: sudo make $1"
}

# Polls the command in $3… until it succeeds; $1 seconds at most. $2 is what is waited for.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        [ ! -t 2 ] || printf 'waiting for %s\r' "$what" >&2
        sleep 0.1
    done
}

# The engine's version, if one answers on DOCKER_HOST or the usual socket.
engine_version() { timeout 10 "$CLI" version --format '{{.Server.Version}}' 2>/dev/null; }

engine_answers() { engine_version >/dev/null; }

# Whoever asks speaks to the engine that answers: the one that it would anyway, or pyrun.
choose_engine() {
    if [ -z "${DOCKER_HOST:-}" ] && ! engine_answers && DOCKER_HOST=$PYRUN_HOST engine_answers; then
        export DOCKER_HOST=$PYRUN_HOST
    fi
}

pid_file() { printf '/run/%s/%s.pid' "$1" "$1"; }

# True if somebody answers on the plugin's socket.
plugin_answers() {
    [ -S "$SOCKETS/$1.sock" ] && python3 - "$SOCKETS/$1.sock" <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(5)
    try:
        client.connect(sys.argv[1])
        client.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: up\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sys.exit(b" 200 " not in client.recv(64))
    except OSError:
        sys.exit(1)
PYTHON
}

# The pid in the file $1, if that process still runs and is the program $2 (a pid may long be somebody else's).
running_pid() {
    local pid
    [ -r "$1" ] && read -r pid <"$1" && [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qE "(^|/)$2\$" || return 1
    printf '%s' "$pid"
}

# Starts $3… as a daemon of its own session, with the pid file $1 and its output in the log $2.
start_daemon() {
    local pid_file=$1 log=$2
    shift 2
    mkdir -p "$(dirname "$pid_file")"
    setsid "$@" >>"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
}

gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# Ends the program $2 whose pid is in the file $1; SIGKILL after $3 seconds. Says what it did.
stop_daemon() {
    local pid
    if ! pid=$(running_pid "$1" "$2"); then
        say "$2: not started by 'up', or not running any more: left alone"
        rm -f "$1"
        return
    fi
    kill -TERM "$pid" 2>/dev/null || true
    if wait_for "$3" "$2 to end" gone "$pid"; then
        say "$2: stopped (pid $pid)"
    else
        kill -KILL "$pid" 2>/dev/null || true
        say "$2: killed (pid $pid), as it had not ended within $3 s"
    fi
    rm -f "$1"
}

# Removes what the demo makes, if anything of it is there: objects named pydemo-… and nothing else.
remove_demo() {
    local found
    found=$("$CLI" ps -aq --filter 'name=^/?pydemo-')
    # shellcheck disable=SC2086  # ids are words
    [ -z "$found" ] || "$CLI" rm -fv $found >/dev/null
    found=$("$CLI" network ls -q --filter 'name=^pydemo-')
    # shellcheck disable=SC2086
    [ -z "$found" ] || "$CLI" network rm $found >/dev/null
    found=$("$CLI" volume ls -q --filter 'name=^pydemo-' 2>/dev/null)
    # shellcheck disable=SC2086
    [ -z "$found" ] || "$CLI" volume rm $found >/dev/null
    found=$("$CLI" images -q pydemo-busybox)
    [ -z "$found" ] || "$CLI" rmi -f pydemo-busybox >/dev/null
}
