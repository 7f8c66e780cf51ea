//! Keys: made where they are missing, never replaced. Each private one goes only where its owner reads it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use nkeys::KeyPair;
use proto::keys::{PublicKey, SigningKey};
use proto::{Component, Name};
use rand::TryRngCore as _;
use zeroize::Zeroizing;

use super::files;
use super::server::{ServerSettings, render};

/// Who verifies what the audit service has signed: each has the public key from here and not from the service.
const VERIFIERS: [Component; 4] = [Component::Audit, Component::Cli, Component::ChannelWeb, Component::Provision];

/// Makes all keys and the server's configuration under `dir`; tells what was made.
///
/// # Errors
/// A file that cannot be read or written, a key that is no key, or a store whose encryption key is gone.
pub fn make_keys(dir: &Path, settings: &ServerSettings) -> anyhow::Result<String> {
    let mut made = Vec::new();
    let mut identities = BTreeMap::new();
    for component in Component::ALL {
        let public = identity(&dir.join(component.as_str()).join("bus.nk"), &mut made)?;
        identities.insert(component, public);
    }
    make_signing_keys(dir, &mut made)?;
    storage_key(dir, &mut made)?;
    let config = render(settings, &identities);
    if files::update(&dir.join("bus/nats.conf"), &config)? {
        made.push("bus/nats.conf".to_owned());
    }
    Ok(if made.is_empty() { "all keys are there already".to_owned() } else { format!("made {}", made.join(", ")) })
}

/// A component's nkey; returns the public half.
fn identity(path: &Path, made: &mut Vec<String>) -> anyhow::Result<String> {
    if let Some(seed) = files::read(path)? {
        let pair = KeyPair::from_seed(seed.trim());
        return pair.map(|pair| pair.public_key()).map_err(|_| anyhow::anyhow!("{} is no nkey seed", path.display()));
    }
    let pair = KeyPair::new_user();
    let seed = pair.seed().map_err(|error| anyhow::anyhow!("cannot make an nkey: {error}"))?;
    files::write(path, seed.as_bytes())?;
    made.push(short(path));
    Ok(pair.public_key())
}

/// Permit, checkpoint and origin keys, and their public halves where they are verified.
fn make_signing_keys(dir: &Path, made: &mut Vec<String>) -> anyhow::Result<()> {
    let permit = signing_key(&dir.join("policy/permit.key"), made)?;
    for runner in Component::ALL.into_iter().filter(|component| component.family().is_some()) {
        files::update(&dir.join(runner.as_str()).join("permit.pub"), &String::from(permit))?;
    }
    let checkpoint = signing_key(&dir.join("audit/checkpoint.key"), made)?;
    for verifier in VERIFIERS {
        files::update(&dir.join(verifier.as_str()).join("checkpoint.pub"), &String::from(checkpoint))?;
    }
    let mut origins: BTreeMap<Name, PublicKey> = BTreeMap::new();
    for component in Component::ALL {
        if let Some(channel) = component.channel() {
            let key = signing_key(&dir.join(component.as_str()).join("origin.key"), made)?;
            origins.insert(channel.parse()?, key);
        }
    }
    let origins = serde_json::to_string_pretty(&origins)?;
    files::update(&dir.join("policy/origins.json"), &origins)?;
    Ok(())
}

fn signing_key(path: &Path, made: &mut Vec<String>) -> anyhow::Result<PublicKey> {
    if let Some(pem) = files::read(path)? {
        let key = SigningKey::from_pem(&pem).with_context(|| format!("{} is not usable", path.display()))?;
        return Ok(key.public());
    }
    let key = SigningKey::from_seed(*random()?);
    files::write(path, key.to_pem()?.as_bytes())?;
    made.push(short(path));
    Ok(key.public())
}

/// The key that the server encrypts its store with. A new one beside an old store would make the server give up what it
/// cannot read, so a missing key is an error unless the store is empty.
fn storage_key(dir: &Path, made: &mut Vec<String>) -> anyhow::Result<()> {
    let path = dir.join("bus/storage-key.conf");
    if files::read(&path)?.is_some() {
        return Ok(());
    }
    let store = dir.join("bus-data");
    let used = std::fs::read_dir(&store)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| e.file_name() != "lost+found")));
    if used {
        bail!(
            "the bus has a store but the key it was encrypted with is gone (bus/storage-key.conf). \
             Put the key back from your backup; to start over and lose all sessions and records: ./nachos down --volumes"
        );
    }
    let text = Zeroizing::new(format!("key: \"{}\"\n", hex::encode(*random()?)));
    files::write(&path, text.as_bytes())?;
    made.push("bus/storage-key.conf".to_owned());
    Ok(())
}

/// `policy/permit.key` of `/provision/policy/permit.key`.
fn short(path: &Path) -> String {
    let mut parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    parts.reverse();
    parts.join("/")
}

/// Random bytes straight from the operating system.
fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rngs::OsRng.try_fill_bytes(bytes.as_mut_slice()).context("the system gives no random bytes")?;
    Ok(bytes)
}
