# shellcheck shell=bash
# ./nachos test: everything that has to hold before a change is good, from formatting to the running containers.
# ./nachos bench: what it costs.

cmd_test() {
    local started=$SECONDS
    need_cargo
    need_nats_server
    need_programs_of_tests
    tell_tests_where_things_are
    check_source
    build_everything
    run_tests
    container_stage
    title "All of it holds ($(seconds $((SECONDS - started))))."
}

cmd_bench() {
    need_cargo
    need_nats_server
    tell_tests_where_things_are
    build_binaries
    build_guests --with-tests
    in_root cargo bench --profile release --workspace --locked --bench '*' -- "$@"
}

need_cargo() {
    host_can_build || die "tests need Rust 1.95 and a C linker on Linux x86-64" \
        "Install Rust (rustup.rs) and gcc, then run this again. Running Nachos needs neither: ./nachos up"
}

# The pages are looked at in a real browser; proofs are checked by a program that is not ours, in Python.
need_programs_of_tests() {
    local missing=()
    have chromium || [ -n "${NACHOS_CHROMIUM:-}" ] || missing+=(chromium)
    have python3 || missing+=(python3)
    python3 -c 'import cryptography' 2>/dev/null || missing+=(python3-cryptography)
    [ "${#missing[@]}" -gt 0 ] || return 0
    is_debian || die "tests need ${missing[*]}" "Install them, then run this again; NACHOS_CHROMIUM names another Chromium or Chrome."
    run apt "reading package lists" as_root apt-get update -qq || exit 1
    run apt "installing ${missing[*]}" \
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" || exit 1
    ok apt "${missing[*]} installed"
    hash -r
}

tell_tests_where_things_are() {
    export NACHOS_NATS_SERVER="$cache/bin/nats-server" NACHOS_TOOLS="$tools_dir" NACHOS_TEST_TOOLS="$tools_dir-tests" NACHOS_BIN="$binaries_dir"
}

check_source() {
    run fmt "cargo fmt --check" in_root cargo fmt --all --check || exit 1
    if have shellcheck; then run shell "shellcheck" in_root shellcheck -x nachos .ci/run tools/guests/build || exit 1; fi
    if in_root cargo deny --version >/dev/null 2>&1; then
        run deny "licences, bans, sources" in_root cargo deny --offline --locked check licenses bans sources || exit 1
    else
        note deny "cargo-deny is not installed: deny.toml is not checked"
    fi
    ok source "formatted"
}

# One build for images and tests alike. Clippy keeps its own, lighter artifacts of every dependency.
build_everything() {
    run cargo "compiling the workspace and its tests" in_root cargo build --release --workspace --all-targets --locked || exit 1
    ok build "$took"
    build_guests --with-tests
    log_lines=60 run clippy "cargo clippy" in_root cargo clippy --release --workspace --all-targets --locked -- -D warnings || exit 1
    ok clippy "no warnings, $took"
}

run_tests() {
    title "tests"
    if has_nextest; then
        in_root cargo nextest run --release --workspace --locked || exit 1
    else
        in_root cargo test --release --workspace --locked --lib --bins --tests 2>&1 | counted || exit 1
    fi
}

has_nextest() { in_root cargo nextest --version >/dev/null 2>&1; }

# cargo test counts each binary by itself; one line at the end says it for all.
counted() {
    awk '{ print } /^test result:/ { passed += $4; failed += $6; ignored += $8 } END { printf "\nall test binaries: %d passed, %d failed, %d ignored\n", passed, failed, ignored }'
}

# The real thing, in a project of its own beside whatever runs here: up, the tests that look into containers, one
# conversation and its record, down.
container_stage() {
    local engine_was_up=''
    title "containers"
    ! have docker || ! engine_answers || engine_was_up=1
    need_docker
    project="nachos-test-$$"
    export COMPOSE_PROJECT_NAME="$project" NACHOS_PROJECT="$project" NACHOS_SKIP_BUILD=1
    # Beside one that runs here on the usual port.
    export NACHOS_WEB_PORT="${NACHOS_WEB_PORT:-8321}"
    # shellcheck disable=SC2064 # which engine was up is known now
    trap "end_container_stage '$engine_was_up'" EXIT
    build_images
    let_containers_read
    start_stack
    container_tests
    conversation
    ok up "a second time: $(time_of "$root/nachos" up --yes)"
}

end_container_stage() {
    COMPOSE_PROFILES=slack,forwarder,cli "${compose[@]}" --ansi never down --volumes --remove-orphans >/dev/null 2>&1 || true
    [ -n "$1" ] || stop_engine
}

container_tests() {
    if has_nextest; then
        in_root cargo nextest run --release --workspace --locked --run-ignored only -E 'test(/^containers::/)' || exit 1
    else
        in_root cargo test --release --workspace --locked --test system -- --ignored containers:: || exit 1
    fi
}

# Acceptance by the launcher's own commands: a question answered through a tool, and the record of it.
conversation() {
    local answer record fact
    answer="$("$root/nachos" chat -m "what time is it in Tokyo?" </dev/null)" || die "chat failed" "$answer"
    grep -qi tokyo <<<"$answer" || die "chat answered something else" "$answer"
    ok chat "$answer"
    record="$("$root/nachos" audit tail --json </dev/null)" || die "audit tail failed" "$record"
    for fact in message.received policy.decided model.requested model.answered tool.started tool.finished message.sent; do
        grep -q "$fact" <<<"$record" || die "the record lacks $fact" "$(tail -n 20 <<<"$record")"
    done
    ok audit "message.received … message.sent are on record"
    proof
}

# The record proves itself: verified in the stack, exported, and verified again by a container without any network or key but one.
proof() {
    local folder said
    folder="$(mktemp -d)"
    said="$("$root/nachos" audit verify </dev/null)" || die "audit verify failed" "$said"
    ok verify "$(tail -n 1 <<<"$said")"
    "$root/nachos" audit export -o "$folder/export.tar.zst" </dev/null >/dev/null || die "audit export failed" "Run it again to see why."
    "$root/nachos" audit backup "$folder/backup.tar" </dev/null >/dev/null || die "audit backup failed" "Run it again to see why."
    said="$("$root/nachos" audit verify --export "$folder/export.tar.zst" </dev/null)" || die "the export does not verify" "$said"
    ok export "$(tail -n 1 <<<"$said")"
    "$root/nachos" audit prune --before 2100-01-01T00:00:00Z </dev/null >/dev/null || die "audit prune failed" "Run it again to see why."
    said="$("$root/nachos" audit verify </dev/null)" || die "audit verify failed after pruning" "$said"
    ok prune "$(tail -n 1 <<<"$said")"
    cmd_restored "$folder/backup.tar"
    rm -rf "$folder"
}

# The backup in an empty stack: everything is there again, and verifies.
cmd_restored() {
    local said
    "$root/nachos" down --volumes >/dev/null 2>&1 || die "down --volumes failed" "Run it again to see why."
    "$root/nachos" audit restore "$1" </dev/null >/dev/null || die "audit restore failed" "Run it again to see why."
    "$root/nachos" up --yes </dev/null >/dev/null 2>&1 || die "the restored stack does not come up" "Run it again to see why."
    said="$("$root/nachos" audit tail --json --type tool.started </dev/null)" || die "audit tail failed after restoring" "$said"
    grep -q tool.started <<<"$said" || die "the restored record lacks tool.started" "$said"
    ok restore "the record is back in an empty stack"
}

time_of() {
    local started=$SECONDS
    "$@" >/dev/null 2>&1 || die "$* failed" "Run it again to see why."
    seconds $((SECONDS - started))
}
