# shellcheck shell=bash
# Secrets: read without echo, piped into the one container that can write the owner's volume. Never an argument, never
# an environment variable, never a file on the way.

provision() { "${compose[@]}" --progress quiet run --rm --no-deps -T provision-keys provision "$@"; }

cmd_secret() {
    use_docker
    [ -n "$("${docker[@]}" images -q nachos/cli:local)" ] || die "nothing is built yet" "./nachos up first."
    case "${1:-}" in
        set) shift && secret_set "$@" ;;
        list) provision secret list --dir /provision </dev/null ;;
        *) die "usage: ./nachos secret set COMPONENT NAME   (value on stdin)  |  ./nachos secret list" \
            "For example: ./nachos secret set llm-proxy openai-api-key" ;;
    esac
}

secret_set() {
    [ $# -eq 2 ] || die "usage: ./nachos secret set COMPONENT NAME" "For example: ./nachos secret set channel-slack bot-token"
    local component="$1" name="$2"
    read_secret "$component" "$name" | provision secret set "$component" "$name" --dir /provision >/dev/null ||
        die "the secret was not stored" "The line above says why."
    ok secret "$name is stored for $component"
    if [ -n "$(container_of "$component")" ]; then
        "${compose[@]}" --progress quiet restart "$component" && ok "$component" "restarted with it"
    elif [ "$component" = channel-slack ] && slack_is_ready; then
        hint "./nachos up" "both Slack tokens are there: starts channel-slack"
    fi
}

read_secret() {
    local value
    if [ -t 0 ]; then
        printf '  %s for %s (not shown): ' "$2" "$1" >&2
        read -rs value && printf '\n' >&2
        printf '%s' "$value"
    else
        cat
    fi
}

# Slack runs once both of its tokens are stored.
slack_is_ready() {
    local stored
    [ -n "${slack_ready:-}" ] || {
        stored="$(provision secret list --dir /provision </dev/null 2>/dev/null)" || stored=''
        if grep -q 'channel-slack.*app-token' <<<"$stored" && grep -q 'channel-slack.*bot-token' <<<"$stored"; then slack_ready=yes; else slack_ready=no; fi
    }
    [ "$slack_ready" = yes ]
}
