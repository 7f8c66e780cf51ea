# shellcheck shell=bash
# Binaries and images: built when their inputs changed, and only then.

components=(gateway channel-slack llm-proxy policy tools-wasm audit forwarder channel-web cli)
target_dir="${CARGO_TARGET_DIR:-$root/target}"
case "$target_dir" in /*) ;; *) target_dir="$PWD/$target_dir" && export CARGO_TARGET_DIR="$target_dir" ;; esac
binaries_dir="$target_dir/x86_64-unknown-linux-gnu/release"
tools_dir="$target_dir/nachos/tools"
bus_image=nats:2-alpine

# The host's cargo serves where it can make what the images hold: static binaries for Linux on x86-64, with Rust 1.95.
# BINARIES=build ./nachos up compiles inside Docker all the same.
host_can_build() {
    [ "${BINARIES:-prebuilt}" = prebuilt ] || return 1
    [ "$(uname -sm)" = "Linux x86_64" ] && have cargo && have cc || return 1
    local version
    version="$(cd "$root" && rustc --version | cut -d ' ' -f 2)"
    [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -n 1)" = 1.95.0 ]
}

build_binaries() {
    run cargo "compiling the workspace" in_root cargo build --release --workspace --locked || exit 1
    ok binaries "$took"
}

in_root() { cd "$root" && "$@"; }

# The built-in tools, compiled to WebAssembly; their builder knows by itself whether anything changed.
build_guests() {
    run tools "compiling the built-in tools to WebAssembly" \
        env NACHOS_CACHE="$cache" "$root/tools/guests/build" "$@" "$tools_dir" || exit 1
    # Machine code ahead of time: the runner is ready at once, and the container needs no compiler's memory.
    run tools "compiling the built-in tools to machine code" "$binaries_dir/tools-wasm" precompile "$tools_dir" || exit 1
    ok tools "$took"
}

binary_of() { case "$1" in cli) echo nachos ;; *) echo "$1" ;; esac; }

# The runner runs the built-in tools; policy knows their effects.
holds_tools() { [ "$1" = policy ] || [ "$1" = tools-wasm ]; }

# What an image is made of, as one digest: kept as a label, compared before a rebuild.
inputs_of() {
    local component="$1"
    {
        cat "$root/Dockerfile" "$binaries_dir/$(binary_of "$component")"
        ! holds_tools "$component" || (cd "$tools_dir" && find . -type f ! -name '.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    } | sha256sum | cut -d ' ' -f 1
}

label_of() { "${docker[@]}" image inspect -f '{{index .Config.Labels "nachos.inputs"}}' "$1" 2>/dev/null; }

build_images() {
    if host_can_build; then
        [ -n "${NACHOS_SKIP_BUILD:-}" ] || { build_binaries && build_guests; }
        images_from_host
    else
        note cargo "not the host's: compiling inside Docker, which needs the internet"
        images_from_docker
    fi
    need_bus_image
}

# Each image from a build context of its own that holds its binary, the tools it shows, and nothing else.
images_from_host() {
    local context="$target_dir/nachos/context" component inputs changed=0
    for component in "${components[@]}"; do
        inputs="$(inputs_of "$component")"
        [ "$(label_of "nachos/$component:local")" = "$inputs" ] && continue
        rm -rf "$context" && mkdir -p "$context/prebuilt/bin" "$context/prebuilt/tools"
        install -m 0755 "$binaries_dir/$(binary_of "$component")" "$context/prebuilt/bin/"
        ! holds_tools "$component" || cp -r "$tools_dir" "$context/prebuilt/" && rm -f "$context/prebuilt/tools/.stamp"
        chmod -R go+rX "$context"
        build_image "$component" prebuilt "$context" --label "nachos.inputs=$inputs"
        changed=$((changed + 1))
    done
    rm -rf "$context"
    ok images "${#components[@]} ready, $changed rebuilt"
}

images_from_docker() {
    local component
    for component in "${components[@]}"; do
        (build_image "$component" build "$root") || die "the images could not be built inside Docker" \
            "Without the internet: install Rust 1.95 and gcc, and ./nachos up compiles on this machine."
    done
    ok images "${#components[@]} ready"
}

build_image() {
    local component="$1" binaries="$2" context="$3"
    shift 3
    run image "building nachos/$component" "${buildx[@]}" build --load --progress plain \
        --build-arg BINARIES="$binaries" -f "$root/Dockerfile" --target "$component" -t "nachos/$component:local" "$@" "$context" || exit 1
}

# The official server image where a registry answers; else a local one with the same contents in the same places, made
# of Debian's newer nats-server.
need_bus_image() {
    "${docker[@]}" image inspect "$bus_image" >/dev/null 2>&1 && return 0
    if pull_bus_image; then ok bus "$bus_image pulled"; else stand_in_bus_image; fi
}

pull_bus_image() { timeout 120 "${docker[@]}" pull -q "$bus_image" >/dev/null 2>&1; }

stand_in_bus_image() {
    local context="$cache/bus-image" library
    note bus "no image registry answers: building $bus_image from Debian's nats-server"
    need_nats_server
    into_cache busybox own busybox-static bin/busybox || die "no static busybox" "Put one at $cache/bin/busybox, then run this again."
    rm -rf "$context" && mkdir -p "$context/root/bin" "$context/root/usr/local/bin"
    cp "$cache/bin/busybox" "$context/root/bin/"
    ln -s busybox "$context/root/bin/sh" && ln -s busybox "$context/root/bin/wget"
    cp -L "$cache/bin/nats-server" "$context/root/usr/local/bin/"
    # The dynamic loader and the libraries the server names, each at its own path.
    ldd "$cache/bin/nats-server" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$context/root$(dirname "$library")" && cp -L "$library" "$context/root$library"
    done
    chmod -R go+rX "$context"
    cp "$root/deploy/bus.Dockerfile" "$context/Dockerfile"
    run bus "building $bus_image" "${buildx[@]}" build --load --progress plain -t "$bus_image" "$context" || exit 1
    ok bus "$bus_image stands in, nats-server $("$cache/bin/nats-server" --version | sed 's/.*v//')"
}
