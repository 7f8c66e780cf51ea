# shellcheck shell=bash
# The running stack: start, look, stop, and pass commands on to the user's tool inside it.

project="${COMPOSE_PROJECT_NAME:-nachos}"

cmd_up() {
    local arg started=$SECONDS
    for arg in "$@"; do
        case "$arg" in
            -y | --yes) yes=1 ;;
            *) die "up does not know $arg" "Usage: ./nachos up [--yes]" ;;
        esac
    done
    title "nachos up"
    need_docker
    let_containers_read
    build_images
    start_stack
    title "Nachos is up ($(seconds $((SECONDS - started))))."
    hint "./nachos chat" "talk to it; or: ./nachos chat -m \"what time is it in Tokyo?\""
    hint "./nachos audit tail" "what was done, for whom, and which rule allowed it"
    hint "./nachos web login" "the same as a page, in your browser"
    slack_is_ready || hint "./nachos help slack" "connect it to Slack"
    printf '\n'
}

# Settings and policies are mounted from here and read by user 10001: a clone under a strict umask hides them.
let_containers_read() {
    local hidden
    hidden="$(find "$root/deploy/config" "$root/policy/policies" "$root/tools/installed" \( -type f ! -perm -o+r -o -type d ! -perm -o+rx \) 2>/dev/null)" || true
    [ -n "$hidden" ] || return 0
    printf '%s\n' "$hidden" | while read -r path; do chmod o+rX "$path"; done
    note modes "made settings and policies readable for the containers' user"
}

start_stack() {
    local profiles=''
    ! slack_is_ready || profiles=slack
    ! forwarding_is_set || profiles+=,forwarder
    export COMPOSE_PROFILES="${COMPOSE_PROFILES:-$profiles}"
    renew_bus
    if ! log_lines=0 run stack "starting containers" "${compose[@]}" --ansi never up -d --no-build --remove-orphans; then
        why_not_up
        exit 1
    fi
    restart_changed
    wait_until_healthy
}

# A new release may have new components and new rights: a bus that runs already learns of them by a restart.
renew_bus() {
    local bus made
    bus="$(container_of bus)"
    [ -n "$bus" ] || return 0
    made="$(provision keys --dir /provision </dev/null)" || die "the keys could not be provisioned" "The line above says why."
    if grep -q bus/nats.conf <<<"$made"; then
        run bus "restarting with the rights of this release" "${docker[@]}" restart "$bus" || exit 1
        ok bus "restarted with the rights of this release"
    fi
}

# Settings are read once, at the start: what was edited since then takes a restart. So do added tools.
restart_changed() {
    local id name since
    for id in $(running --filter label=com.docker.compose.oneoff=False); do
        name="$(name_of "$id")"
        since="$("${docker[@]}" inspect -f '{{.State.StartedAt}}' "$id")"
        set -- "$root/deploy/config/$name.toml"
        ! holds_tools "$name" || set -- "$@" "$root/tools/installed"
        [ -n "$(find "$@" -newermt "$since" -print -quit 2>/dev/null)" ] || continue
        run "$name" "restarting with its new settings" "${docker[@]}" restart "$id" || exit 1
        ok "$name" "restarted with its new settings"
    done
}

running() { "${docker[@]}" ps -q --filter "label=com.docker.compose.project=$project" "$@"; }

container_of() { running --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False; }

name_of() { "${docker[@]}" inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$1"; }

# Asks each container's own health check now, where the engine would ask first after its interval.
wait_until_healthy() {
    local id test deadline=$((SECONDS + 60)) waiting
    while :; do
        waiting=''
        for id in $(running --filter label=com.docker.compose.oneoff=False -a --filter status=running --filter status=restarting); do
            test=()
            while read -r word; do [ -n "$word" ] && test+=("$word"); done < <("${docker[@]}" inspect -f '{{with .Config.Healthcheck}}{{range .Test}}{{println .}}{{end}}{{end}}' "$id")
            [ "${#test[@]}" -gt 1 ] || continue
            "${docker[@]}" exec "$id" "${test[@]:1}" >/dev/null 2>&1 || waiting+=" $(name_of "$id")"
        done
        [ -n "$waiting" ] || break
        [ -z "$live" ] || printf '\r\e[K  %s…%s %-14s waiting for%s' "$yellow" "$plain" stack "$waiting"
        if [ "$SECONDS" -ge "$deadline" ] || keeps_failing; then
            [ -z "$live" ] || printf '\r\e[K'
            why_not_up
            exit 1
        fi
        sleep 0.2
    done
    [ -z "$live" ] || printf '\r\e[K'
    ok stack "$(running --filter label=com.docker.compose.oneoff=False | grep -c .) containers, all healthy"
}

# A container that has died three times will die a fourth: no use in waiting.
keeps_failing() {
    local id
    for id in $(running --filter label=com.docker.compose.oneoff=False -a --filter status=restarting); do
        [ "$("${docker[@]}" inspect -f '{{.RestartCount}}' "$id")" -lt 3 ] || return 0
    done
    return 1
}

# Names every container that failed, with its last words.
why_not_up() {
    local id
    bad stack "not everything came up"
    for id in $("${docker[@]}" ps -aq --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False); do
        case "$("${docker[@]}" inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{with .State.Health}}{{.Status}}{{end}}' "$id")" in
            "exited 0 "* | "created "* | "running "*" healthy" | "running 0 0 starting") continue ;;
        esac
        printf '\n    %s%s%s: %s\n' "$bold" "$(name_of "$id")" "$plain" "$("${docker[@]}" ps -a --filter "id=$id" --format '{{.Status}}')"
        "${docker[@]}" logs --tail 8 "$id" 2>&1 | uniq | sed 's/^/      /'
    done
    printf '\n'
    hint "./nachos logs NAME" "everything one component said"
    hint "./nachos doctor" "what is wrong and what to do"
    printf '\n'
}

cmd_down() {
    local arg flags=()
    for arg in "$@"; do
        case "$arg" in
            --volumes | -v) flags=(--volumes) ;;
            *) die "down does not know $arg" "Usage: ./nachos down [--volumes]   (--volumes also deletes sessions, keys and the audit log)" ;;
        esac
    done
    use_docker
    COMPOSE_PROFILES=slack,forwarder,cli run stack "stopping" "${compose[@]}" --ansi never down --remove-orphans ${flags[@]+"${flags[@]}"} || exit 1
    if [ "${#flags[@]}" -gt 0 ]; then ok down "stopped; sessions, keys and the audit log are deleted"
    else ok down "stopped; sessions and the audit log are kept"; fi
}

cmd_status() {
    use_docker
    if [ -z "$(running -a)" ]; then
        note status "not running; ./nachos up starts it"
        exit 1
    fi
    title "$project"
    "${docker[@]}" ps -a --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False \
        --format '{{.Label "com.docker.compose.service"}}|{{.Status}}' | sort | while IFS='|' read -r name state; do
        case "$state" in
            *"(healthy)"* | "Exited (0)"*) ok "$name" "$state" ;;
            *"health: starting"*) note "$name" "$state" ;;
            *) bad "$name" "$state" ;;
        esac
    done
    printf '\n'
    [ -z "$(container_of bus)" ] || forward status "$@" || exit
}

cmd_logs() {
    use_docker
    local flags=(--tail 200)
    [ "${1:-}" = -f ] && { flags+=(-f); shift; }
    exec "${compose[@]}" logs "${flags[@]}" "$@"
}

# The host's half of the examination; the other half is the tool's own, from inside.
cmd_doctor() {
    title "nachos doctor"
    local failed=0
    if have docker; then ok docker "client $(docker version -f '{{.Client.Version}}' 2>/dev/null)"
    else bad docker "not installed; ./nachos up installs it" && exit 1; fi
    if engine_answers || use_sudo; then ok engine "$("${docker[@]}" version -f '{{.Server.Version}}')"
    else bad engine "not running; ./nachos up starts it" && exit 1; fi
    need_compose
    for component in "${components[@]}"; do
        [ -n "$("${docker[@]}" images -q "nachos/$component:local")" ] || { bad images "nachos/$component is not built; ./nachos up builds it" && failed=1; }
    done
    [ "$("${docker[@]}" image inspect -f '{{index .Config.Labels "nachos.stand-in"}}' "$bus_image" 2>/dev/null)" = true ] &&
        note bus "a local stand-in for $bus_image; to change: docker pull $bus_image"
    if [ -z "$(container_of bus)" ]; then
        bad stack "not running; ./nachos up starts it"
        exit 1
    fi
    for id in $("${docker[@]}" ps -aq --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False); do
        state="$("${docker[@]}" ps -a --filter "id=$id" --format '{{.Status}}')"
        case "$state" in
            *"(healthy)"* | "Exited (0)"* | *"health: starting"*) ;;
            *) bad "$(name_of "$id")" "$state; ./nachos logs $(name_of "$id")" && failed=1 ;;
        esac
    done
    forward doctor "$@" || failed=1
    exit "$failed"
}

# forward ARGS: the user's tool in its container on the bus; its exit code is ours.
forward() {
    local flags=(--rm --no-deps -e NO_COLOR -e TERM -e TZ="$(time_zone)")
    [ -t 0 ] && [ -t 1 ] || flags+=(-T)
    "${compose[@]}" --progress quiet run "${flags[@]}" ${forward_flags[@]+"${forward_flags[@]}"} cli "$@"
}

# The user's own, as a rule of POSIX: the container has no zone files. The last line of a zone file is that rule (RFC 9636).
time_zone() { if [ -n "${TZ:-}" ]; then echo "$TZ"; else tail -n 1 /etc/localtime 2>/dev/null | tr -d '\0' || true; fi; }

cmd_forward() {
    use_docker
    [ -n "$("${docker[@]}" images -q nachos/cli:local)" ] || die "nothing is built yet" "./nachos up builds and starts everything."
    case "$1" in
        slack | version | --version) ;;
        *) [ -n "$(container_of bus)" ] || die "Nachos is not running" "./nachos up starts it." ;;
    esac
    forward "$@" || exit
}
