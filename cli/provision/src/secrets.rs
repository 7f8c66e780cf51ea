//! Secrets that people bring: provider keys and channel tokens, each kept where only its component reads it.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proto::{Component, Name};
use zeroize::Zeroizing;

use super::{Which, files};

/// Who has secrets of this kind, and which.
const KNOWN: [(Component, &[&str]); 3] = [
    (Component::LlmProxy, &["openai-api-key", "anthropic-api-key"]),
    (Component::ChannelSlack, &["app-token", "bot-token"]),
    (Component::Forwarder, &["webhook-secret"]),
];

/// Longest secret: keys and tokens are some hundred characters.
const MAX_SECRET: u64 = 16 * 1024;

/// Keeps a secret read from `input`.
pub(super) fn set(dir: &Path, which: &Which, input: impl Read) -> anyhow::Result<String> {
    let Which { component, name } = which;
    let Some((_, names)) = KNOWN.iter().find(|(known, _)| known == component) else {
        bail!("{component} takes no secrets; those that do: llm-proxy, channel-slack, forwarder");
    };
    if *component != Component::LlmProxy && !names.contains(&name.as_str()) {
        bail!("{component} has no secret `{name}`; it has: {}", names.join(", "));
    }
    let mut value = Zeroizing::new(String::new());
    input.take(MAX_SECRET).read_to_string(&mut value).context("cannot read the secret from standard input")?;
    let trimmed = value.trim();
    if trimmed.is_empty() || trimmed.contains(['\n', '\r']) {
        bail!("a secret is one line of text; give it on standard input");
    }
    files::write(&place(dir, *component, name), trimmed.as_bytes())?;
    Ok(format!("kept {component}/{name}"))
}

/// Which are set, one `component/name` a line.
pub(super) fn list(dir: &Path) -> anyhow::Result<String> {
    let mut found = Vec::new();
    for (component, _) in KNOWN {
        let Ok(entries) = std::fs::read_dir(folder(dir, component)) else { continue };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(names.filter(|name| name.parse::<Name>().is_ok()).map(|name| format!("{component}/{name}")));
    }
    found.sort();
    Ok(found.join("\n"))
}

fn folder(dir: &Path, component: Component) -> PathBuf {
    dir.join(format!("{component}-secrets"))
}

fn place(dir: &Path, component: Component, name: &Name) -> PathBuf {
    folder(dir, component).join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = std::env::temp_dir().join(format!("nachos-secrets-{}", uuid::Uuid::new_v4()));
        let which = |component, name: &str| Which { component, name: name.parse().unwrap() };
        let app_token = which(Component::ChannelSlack, "app-token");
        assert!(set(&dir, &app_token, "\n".as_bytes()).is_err());
        set(&dir, &app_token, "xapp-1\n".as_bytes()).unwrap();
        let kept = dir.join("channel-slack-secrets/app-token");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "xapp-1");
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        assert!(set(&dir, &which(Component::ChannelSlack, "apptoken"), "x".as_bytes()).is_err());
        assert!(set(&dir, &which(Component::Gateway, "app-token"), "x".as_bytes()).is_err());
        set(&dir, &app_token, "xapp-2".as_bytes()).unwrap();
        assert_eq!(list(&dir).unwrap(), "channel-slack/app-token");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
