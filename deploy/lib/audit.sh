# shellcheck shell=bash
# ./nachos audit: most of it is the user's tool inside the stack. Here is what needs this machine's files or the one
# identity that may copy, restore and shorten the record.

cmd_audit() {
    case "${1:-}" in
        backup | restore | prune) "audit_$1" "${@:2}" ;;
        *) audit_with_files "$@" ;;
    esac
}

# Files named on the command line are mounted read-only; what is written (-o FILE) comes out through a folder of its own.
audit_with_files() {
    local words=() mounts=() output='' box='' place status=0
    use_docker
    while [ $# -gt 0 ]; do
        case "$1" in
            --export | --bundle | --archive-file | --archive | --checkpoints | --key)
                words+=("$1")
                if [ $# -gt 1 ] && [ "$2" != - ] && [ -e "$2" ]; then
                    place="/in/${#mounts[@]}-$(basename "$2")"
                    mounts+=(-v "$(readlink -f "$2"):$place:ro")
                    words+=("$place") && shift
                fi
                ;;
            -o | --output)
                words+=("$1")
                if [ $# -gt 1 ] && [ "$2" != - ]; then
                    output="$2" && box="$(mktemp -d)" && mkdir -m 0777 "$box/out" && chmod 0777 "$box/out"
                    mounts+=(-v "$box/out:/out") && words+=("/out/$(basename "$2")") && shift
                fi
                ;;
            *) words+=("$1") ;;
        esac
        shift
    done
    forward_flags=(${mounts[@]+"${mounts[@]}"})
    case " ${words[*]} " in
        *" --export "* | *" --bundle "* | *" --archive-file "*) forward audit "${words[@]}" || status=$? ;;
        *) cmd_forward audit "${words[@]}" || status=$? ;;
    esac
    if [ -n "$box" ]; then
        if [ "$status" = 0 ] && ! cat "$box/out/$(basename "$output")" >"$output"; then status=1; fi
        rm -rf "$box"
    fi
    exit "$status"
}

# keeper ARGS: the identity `provision`, in the server's own network, for as long as one command takes.
keeper() { "${compose[@]}" --progress quiet run --rm --no-deps -T ${keeper_flags[@]+"${keeper_flags[@]}"} provision provision "$@"; }

audit_backup() {
    [ $# -eq 1 ] || die "usage: ./nachos audit backup FILE" "FILE - writes to standard output."
    use_docker && need_running
    if [ "$1" = - ]; then keeper backup </dev/null || exit; return 0; fi
    [ ! -e "$1" ] || die "$1 is there already" "Give another name: a backup is never overwritten."
    if keeper backup </dev/null >"$1.part" && mv "$1.part" "$1"; then
        ok backup "$1, $(du -h "$1" | cut -f 1)"
        note keys "the keys are not in it: who restores needs the public key to verify: ./nachos audit checkpoint"
    else
        rm -f "$1.part"
        die "no backup was made" "The line above says why."
    fi
}

# Into a stack that has no record yet: everything but the bus stands still until the record is back.
audit_restore() {
    [ $# -ge 1 ] && [ -r "$1" ] || die "usage: ./nachos audit restore FILE" "FILE is what ./nachos audit backup wrote."
    use_docker
    [ -n "$("${docker[@]}" images -q nachos/cli:local)" ] || { build_images; }
    [ -z "$(running --filter label=com.docker.compose.service=audit)" ] ||
        die "the stack runs and has a record" "A backup goes into an empty stack: ./nachos down --volumes deletes the one that is here."
    run bus "starting the bus" "${compose[@]}" --ansi never up -d --no-build bus || exit 1
    keeper_flags=(-v "$(readlink -f "$1"):/in/backup:ro")
    keeper restore </dev/null || die "the record was not restored" "The line above says why."
    hint "./nachos up" "starts everything on the restored record"
    hint "./nachos audit verify" "proves that it is whole; --key FILE for the key of the stack it came from"
}

audit_prune() {
    use_docker && need_running
    forward audit archive "$@" || die "nothing was archived, so nothing is dropped" "The line above says why."
    keeper prune </dev/null || die "nothing was dropped" "The line above says why."
}

need_running() { [ -n "$(container_of bus)" ] || die "Nachos is not running" "./nachos up starts it."; }

# The forwarder runs once a destination is set.
forwarding_is_set() { grep -Eq '^\[(syslog|webhook)\]' "$root/deploy/config/forwarder.toml"; }
