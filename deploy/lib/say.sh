# shellcheck shell=bash
# Terminal output: one calm line per thing done, details only when something fails.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    live=1 bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' yellow=$'\e[33m' red=$'\e[31m' plain=$'\e[0m'
else
    live='' bold='' dim='' green='' yellow='' red='' plain=''
fi

title() { printf '\n  %s%s%s\n\n' "$bold" "$*" "$plain"; }
ok()    { printf '  %s✓%s %-14s %s%s%s\n' "$green" "$plain" "$1" "$dim" "${*:2}" "$plain"; }
note()  { printf '  %s·%s %-14s %s\n' "$yellow" "$plain" "$1" "${*:2}"; }
bad()   { printf '  %s✗%s %-14s %s\n' "$red" "$plain" "$1" "${*:2}"; }
hint()  { printf '    %-20s %s%s%s\n' "$1" "$dim" "${*:2}" "$plain"; }

# die "what happened" "what to do next": the one way out on an error.
die() {
    printf '\n  %s✗ %s%s\n' "$red" "$1" "$plain" >&2
    [ -z "${2:-}" ] || printf '    %s\n' "${@:2}" >&2
    printf '\n' >&2
    exit 1
}

seconds() { # 75 -> 1 min 15 s
    if [ "$1" -ge 60 ]; then printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); else printf '%d s' "$1"; fi
}

# run NAME "what it does" command...: runs a longer command with its output in a log. A terminal sees one live line,
# anything else a line every half minute; a failure shows the end of the log (`log_lines` of it; 0: the caller explains). Sets `took`.
run() {
    local name="$1" what="$2" log started pid status=0 now last next=30
    shift 2
    mkdir -p "$cache/log"
    log="$cache/log/$name.log"
    started=$SECONDS
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        now=$((SECONDS - started))
        if [ -n "$live" ]; then
            last="$(tail -n 1 "$log" | tr -d '\r\033' | cut -c "1-$((${COLUMNS:-$(tput cols 2>/dev/null || echo 80)} - 44))")"
            printf '\r\e[K  %s…%s %-14s %s %s(%s) %s%s' "$yellow" "$plain" "$name" "$what" "$dim" "$(seconds $now)" "${last# }" "$plain"
        elif [ "$now" -ge "$next" ]; then
            printf '    %-14s %s (%s) %s\n' "$name" "$what" "$(seconds $now)" "$(tail -n 1 "$log" | cut -c 1-80)"
            next=$((next + 30))
        fi
    done
    wait "$pid" || status=$?
    [ -z "$live" ] || printf '\r\e[K'
    took="$(seconds $((SECONDS - started)))"
    [ "$status" -ne 0 ] && [ "${log_lines:-25}" -gt 0 ] || return "$status"
    bad "$name" "$what failed; the end of its log:"
    printf '\n' && tail -n "${log_lines:-25}" "$log" | sed 's/^/      /'
    hint "whole log" "$log"
    return "$status"
}

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else die "this step needs root: $*" "Run it as root, then run ./nachos again."
    fi
}

# Asks once on a terminal; --yes and a missing terminal go on.
agree() {
    local answer
    [ -z "${yes:-}" ] && [ -t 0 ] && [ -t 1 ] || return 0
    printf '  %s [Y/n] ' "$1"
    read -r answer || answer=n
    case "$answer" in '' | y | Y | yes) ;; *) die "nothing was changed" "Install Docker yourself, then run ./nachos up again." ;; esac
}
