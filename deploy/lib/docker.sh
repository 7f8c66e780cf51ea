# shellcheck shell=bash
# Docker: its engine, its client, Compose and buildx, whatever of them this machine lacks.

docker=(docker) compose=() buildx=()

engine_answers() { "${docker[@]}" version -f '{{.Server.Version}}' >/dev/null 2>&1; }

need_docker() {
    have docker || install_docker
    engine_answers || use_sudo || start_engine
    need_compose
    need_buildx
    ok docker "$("${docker[@]}" version -f '{{.Server.Version}}'), compose $("${compose[@]}" version --short)"
}

# A user outside the docker group, with sudo.
use_sudo() {
    [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ] && have sudo || return 1
    docker=(sudo docker)
    engine_answers || { docker=(docker); return 1; }
}

install_docker() {
    local packages=(docker.io iptables)
    is_debian || die "there is no Docker engine here" "Install one (docs.docker.com/get-docker), then run ./nachos up again."
    note docker "no engine here; ${packages[*]} will be installed from your distribution's packages"
    agree "Go on?"
    run apt "reading package lists" as_root apt-get update -qq || exit 1
    # Newer releases keep the client in a package of its own.
    apt-cache show docker-cli >/dev/null 2>&1 && packages+=(docker-cli)
    run apt "installing ${packages[*]}" \
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" || exit 1
    ok apt "${packages[*]} installed"
    hash -r
}

# By systemd where it runs, else as a plain process of this machine. A client without an engine is common enough.
start_engine() {
    local context
    [ -z "${DOCKER_HOST:-}" ] || die "no Docker engine answers at $DOCKER_HOST" "Start it, or unset DOCKER_HOST."
    context="$(docker context show 2>/dev/null || echo default)"
    [ "$context" = default ] || die "the Docker engine of context $context does not answer" "Start it (on a desktop: open Docker Desktop), then run ./nachos again."
    have dockerd || { install_docker && { engine_answers || use_sudo; } && return 0; }
    if [ -d /run/systemd/system ]; then
        run docker "starting the engine" as_root systemctl start docker || exit 1
    else
        launch_dockerd || launch_dockerd_with_legacy_iptables ||
            die "the Docker engine did not start" "Its last words:" "$(grep -vE 'level=(info|debug)' "$cache/log/dockerd.log" | tail -n 5)" "Whole log: $cache/log/dockerd.log"
    fi
    engine_answers || use_sudo || die "the Docker engine runs but does not answer" "Look at: docker version"
}

launch_dockerd() {
    mkdir -p "$cache/log"
    as_root setsid env PATH="$PATH" dockerd >"$cache/log/dockerd.log" 2>&1 </dev/null &
    local deadline=$((SECONDS + 30))
    while [ "$SECONDS" -lt "$deadline" ]; do
        if engine_answers || use_sudo; then
            pidof dockerd >"$cache/dockerd.pid"
            ok engine "started dockerd (log: $cache/log/dockerd.log)"
            return 0
        fi
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
    return 1
}

# A kernel without nf_tables: the same engine with the older tables, chosen for this process only.
launch_dockerd_with_legacy_iptables() {
    grep -q iptables "$cache/log/dockerd.log" 2>/dev/null && have iptables-legacy || return 1
    local dir="$cache/iptables-legacy"
    mkdir -p "$dir"
    ln -sf "$(command -v iptables-legacy)" "$dir/iptables"
    ln -sf "$(command -v ip6tables-legacy)" "$dir/ip6tables"
    PATH="$dir:$PATH" launch_dockerd
}

# Ends the engine only if this launcher started it as a plain process.
stop_engine() {
    [ -s "$cache/dockerd.pid" ] || return 0
    as_root kill "$(cat "$cache/dockerd.pid")" 2>/dev/null || true
    rm -f "$cache/dockerd.pid"
}

# Compose and buildx are used where they are installed; else they come from the distribution's newer suites into the
# cache and are run as programs of their own, so that the user's Docker settings stay as they are.
need_compose() {
    if "${docker[@]}" compose version >/dev/null 2>&1; then
        compose=("${docker[@]}" compose)
    else
        into_cache docker-compose newer docker-compose usr/libexec/docker/cli-plugins/docker-compose ||
            die "Docker Compose is missing" "Install the Compose plugin (docs.docker.com/compose/install), then run this again."
        compose=("$cache/bin/docker-compose")
        [ "${docker[0]}" = docker ] || compose=(sudo "${compose[@]}")
    fi
    compose+=(--project-directory "$root" -f "$root/compose.yaml")
}

need_buildx() {
    if "${docker[@]}" buildx version >/dev/null 2>&1; then
        buildx=("${docker[@]}" buildx)
    else
        into_cache docker-buildx newer docker-buildx usr/libexec/docker/cli-plugins/docker-buildx ||
            die "Docker buildx is missing" "Install the buildx plugin (docs.docker.com/build/install), then run this again."
        buildx=("$cache/bin/docker-buildx")
        [ "${docker[0]}" = docker ] || buildx=(sudo "${buildx[@]}")
    fi
}

# For commands that only talk to what runs.
use_docker() {
    have docker || die "Docker is not installed" "./nachos up installs and starts everything."
    engine_answers || use_sudo || die "the Docker engine is not running" "./nachos up starts it."
    need_compose
}
