# One image per component: `FROM scratch`, one static binary, user 10001.
#
# BINARIES says where the binaries come from:
#   build     compile them here, in a Rust image (needs the internet; `docker compose up` does this on its own)
#   prebuilt  take what the host's cargo made, from prebuilt/ in the build context (`./nachos up` prepares it)
# BuildKit resolves only the stages an image needs, so `prebuilt` never asks a registry for anything.
ARG BINARIES=build

FROM rust:1.95-bookworm AS compile
WORKDIR /src
RUN rustup target add wasm32-unknown-unknown
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    export CARGO_BUILD_TARGET="$(uname -m)-unknown-linux-gnu" \
           CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
 && cargo build --release --workspace --locked \
 && mkdir -p /out/bin /out/tools \
 && for binary in gateway channel-slack llm-proxy policy tools-wasm audit forwarder channel-web nachos; do \
        cp "target/$CARGO_BUILD_TARGET/release/$binary" /out/bin/ || exit 1; \
    done \
 && NACHOS_CACHE=/src/target/nachos tools/guests/build /out/tools \
 && /out/bin/tools-wasm precompile /out/tools \
 && rm -f /out/tools/.stamp

FROM scratch AS build
COPY --from=compile /out/ /

FROM scratch AS prebuilt
COPY prebuilt/ /

FROM ${BINARIES} AS binaries

# A fresh named volume takes owner and mode of the folder it is mounted on: these folders belong to the run user, so
# that no container ever needs a capability to change an owner.
FROM scratch AS base
USER 10001:10001
WORKDIR /keys
WORKDIR /data
WORKDIR /archive
WORKDIR /checkpoints
WORKDIR /run/secrets
WORKDIR /

FROM base AS gateway
COPY --from=binaries /bin/gateway /gateway
ENTRYPOINT ["/gateway"]
CMD ["--config", "/etc/nachos/gateway.toml"]

FROM base AS channel-slack
COPY --from=binaries /bin/channel-slack /channel-slack
ENTRYPOINT ["/channel-slack"]
CMD ["--config", "/etc/nachos/channel-slack.toml"]

FROM base AS llm-proxy
COPY --from=binaries /bin/llm-proxy /llm-proxy
ENTRYPOINT ["/llm-proxy"]
CMD ["--config", "/etc/nachos/llm-proxy.toml"]

FROM base AS policy
COPY --from=binaries /bin/policy /policy
COPY --from=binaries /tools/ /etc/nachos/tools/builtin/
ENTRYPOINT ["/policy"]
CMD ["--config", "/etc/nachos/policy.toml"]

FROM base AS tools-wasm
COPY --from=binaries /bin/tools-wasm /tools-wasm
COPY --from=binaries /tools/ /etc/nachos/tools/builtin/
ENTRYPOINT ["/tools-wasm"]
CMD ["--config", "/etc/nachos/tools-wasm.toml"]

FROM base AS audit
COPY --from=binaries /bin/audit /audit
ENTRYPOINT ["/audit"]
CMD ["--config", "/etc/nachos/audit.toml"]

FROM base AS forwarder
COPY --from=binaries /bin/forwarder /forwarder
ENTRYPOINT ["/forwarder"]
CMD ["--config", "/etc/nachos/forwarder.toml"]

FROM base AS channel-web
COPY --from=binaries /bin/channel-web /channel-web
ENTRYPOINT ["/channel-web"]
CMD ["--config", "/etc/nachos/channel-web.toml"]

# The user's tool, and the one-shot that provisions keys, server settings and streams: it sees each component's
# volumes as /provision/<name>, and as the first to mount them gives them their owner.
FROM base AS cli
WORKDIR /provision/gateway
WORKDIR /provision/channel-slack
WORKDIR /provision/llm-proxy
WORKDIR /provision/policy
WORKDIR /provision/tools-wasm
WORKDIR /provision/audit
WORKDIR /provision/forwarder
WORKDIR /provision/channel-web
WORKDIR /provision/cli
WORKDIR /provision/provision
WORKDIR /provision/bus
WORKDIR /provision/bus-data
WORKDIR /provision/gateway-data
WORKDIR /provision/audit-data
WORKDIR /provision/audit-archive
WORKDIR /provision/audit-checkpoints
WORKDIR /provision/llm-proxy-secrets
WORKDIR /provision/channel-slack-secrets
WORKDIR /provision/forwarder-secrets
WORKDIR /
COPY --from=binaries /bin/nachos /nachos
ENTRYPOINT ["/nachos"]
