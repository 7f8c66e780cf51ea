# shellcheck shell=bash
# Programs from the distribution: of this release into the system, of a newer Debian suite into the cache only.

is_debian() { have apt-get && have dpkg-deb; }

# The machine's own Debian mirror, from either notation of sources (deb822 .sources, one-line .list).
debian_mirror() {
    {
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
            awk 'tolower($1) == "uris:" { for (i = 2; i <= NF; i++) print $i }'
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -n 's/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*\) .*/\2/p'
    } | grep -E '/debian/?$' | head -n 1
}

# apt with a private directory: another suite's lists beside the system's, the system untouched.
suite_apt() {
    local suite="$1" dir="$cache/apt/$1"
    shift
    "$@" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir" -o APT::Sandbox::User=root
}

suite_update() {
    local suite="$1" dir="$cache/apt/$1" mirror
    mirror="$(debian_mirror)"
    [ -n "$mirror" ] || return 1
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" >"$dir/sources.list"
    suite_apt "$suite" apt-get update -qq
}

# newer_package PACKAGE DIR: unpacks a package of a newer suite into DIR.
newer_package() {
    local package="$1" to="$2" suite work status=1
    is_debian || return 1
    work="$(mktemp -d)"
    for suite in sid forky; do
        [ -s "$cache/apt/$suite/.fresh" ] || { suite_update "$suite" && date >"$cache/apt/$suite/.fresh"; } || continue
        (cd "$work" && suite_apt "$suite" apt-get download -qq "$package") ||
            (suite_update "$suite" && cd "$work" && suite_apt "$suite" apt-get download -qq "$package") || continue
        dpkg-deb -x "$work/$package"_*.deb "$to" && status=0 && break
    done
    rm -rf "$work"
    return "$status"
}

# own_package PACKAGE DIR: unpacks a package of this machine's release into DIR, installing nothing.
own_package() {
    local work status=0
    is_debian || return 1
    work="$(mktemp -d)"
    (cd "$work" && { apt-get download -qq "$1" || { as_root apt-get update -qq && apt-get download -qq "$1"; }; }) &&
        dpkg-deb -x "$work/$1"_*.deb "$2" || status=$?
    rm -rf "$work"
    return "$status"
}

# into_cache NAME own|newer PACKAGE PATH: $cache/bin/NAME, taken from PATH inside PACKAGE unless it is there.
into_cache() {
    local name="$1" from="$2" package="$3" path="$4" work
    [ -x "$cache/bin/$name" ] && return 0
    work="$(mktemp -d)"
    run "$name" "fetching $package from Debian" "${from}_package" "$package" "$work" || { rm -rf "$work"; return 1; }
    mkdir -p "$cache/bin"
    install -m 0755 "$work/$path" "$cache/bin/$name.new" && mv "$cache/bin/$name.new" "$cache/bin/$name"
    rm -rf "$work"
    ok "$name" "in $cache/bin"
}

# The server that tests and the local bus image run.
need_nats_server() {
    if have nats-server && nats_is_new_enough "$(command -v nats-server)"; then
        mkdir -p "$cache/bin"
        [ -e "$cache/bin/nats-server" ] || ln -s "$(command -v nats-server)" "$cache/bin/nats-server"
    fi
    into_cache nats-server newer nats-server usr/sbin/nats-server ||
        die "no nats-server 2.14.3 or newer" "Put one at $cache/bin/nats-server, then run this again."
}

# 2.14.3 is the first release with all of this year's authorisation fixes.
nats_is_new_enough() {
    local version
    version="$("$1" --version 2>/dev/null | sed 's/.*v//')"
    [ "$(printf '%s\n2.14.3\n' "$version" | sort -V | head -n 1)" = 2.14.3 ]
}
