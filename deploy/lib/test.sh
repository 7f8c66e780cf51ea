# shellcheck shell=bash
# ./nachos test: everything that has to hold before a change is good, from formatting to the running containers.
# ./nachos bench: what it costs.

cmd_test() {
    local started=$SECONDS
    need_cargo
    need_nats_server
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
}

time_of() {
    local started=$SECONDS
    "$@" >/dev/null 2>&1 || die "$* failed" "Run it again to see why."
    seconds $((SECONDS - started))
}
