//! Asks models.

fn main() -> std::process::ExitCode {
    bus::run(proto::Component::LlmProxy, llm_proxy::serve)
}
