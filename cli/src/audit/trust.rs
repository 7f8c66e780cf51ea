//! Whose signatures count: the key that this tool was given when it was set up, or the one on the command line. Never one that the log
//! itself brings along.

use std::fs;
use std::path::Path;

use ledger::checkpoint::{CheckpointError, WitnessKey, read_key};
use proto::keys::PublicKey;

use crate::failure::Failure;
use crate::session::Config;

/// What the command line says.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(crate) struct Args {
    /// The public key that checkpoints must be signed with, as a file or as text (nachos audit checkpoint shows it); may be repeated
    /// [default: the one that was stored here when the stack was set up].
    #[arg(long = "key", value_name = "FILE|TEXT")]
    keys: Vec<String>,
    /// The key of a witness whose signature is checked too, as C2SP verifier key; may be repeated.
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<String>,
}

/// Whose signatures count.
#[derive(Debug)]
pub(super) struct Trust {
    /// Of the log.
    pub(super) keys: Vec<PublicKey>,
    /// Of witnesses.
    pub(super) witnesses: Vec<WitnessKey>,
}

impl Args {
    /// Reads the keys; `None` if there is none to read: for commands that only pass on what somebody else will check.
    pub(super) fn load_if_there(&self, config: &Config) -> Result<Option<Trust>, Failure> {
        if self.keys.is_empty() && !config.checkpoint_key.exists() {
            return Ok(None);
        }
        self.load(config).map(Some)
    }

    /// Reads the keys.
    pub(super) fn load(&self, config: &Config) -> Result<Trust, Failure> {
        let keys = if self.keys.is_empty() {
            vec![default_key(&config.checkpoint_key)?]
        } else {
            self.keys.iter().map(|given| given_key(given)).collect::<Result<_, _>>()?
        };
        let witnesses =
            self.witnesses.iter().chain(&config.witnesses).map(|text| witness(text)).collect::<Result<_, _>>()?;
        Ok(Trust { keys, witnesses })
    }
}

fn default_key(path: &Path) -> Result<PublicKey, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let message = format!("no key to verify with: {}: {error}", path.display());
        Failure::new(
            message,
            "--key FILE or --key TEXT gives one; nachos audit checkpoint shows that of a running stack",
        )
    })?;
    parse(&text)
        .map_err(|wrong| Failure::new(format!("{}: {wrong}", path.display()), "--key FILE or --key TEXT gives another"))
}

fn given_key(given: &str) -> Result<PublicKey, Failure> {
    let path = Path::new(given);
    let text = if path.is_file() { fs::read_to_string(path)? } else { given.to_owned() };
    parse(&text).map_err(|wrong| {
        Failure::new(
            format!("--key {given}: neither a file nor a key: {wrong}"),
            "nachos audit checkpoint shows the key",
        )
    })
}

fn parse(text: &str) -> Result<PublicKey, String> {
    read_key(text.trim()).map_err(|error| error.to_string())
}

fn witness(text: &str) -> Result<WitnessKey, Failure> {
    text.parse().map_err(|error: CheckpointError| {
        Failure::new(format!("the witness key {text}: {error}"), "a witness publishes its key as name+hex+base64")
    })
}

#[cfg(test)]
mod tests {
    use ledger::checkpoint::vkey;
    use proto::keys::SigningKey;

    use super::*;

    fn load(keys: &[&str]) -> Result<Vec<PublicKey>, Failure> {
        let args = Args { keys: keys.iter().map(ToString::to_string).collect(), witnesses: vec![] };
        let config = Config { checkpoint_key: "/nowhere/checkpoint.pub".into(), ..Config::default() };
        args.load(&config).map(|trust| trust.keys)
    }

    #[test]
    fn a_key_is_a_file_or_text_in_either_form() {
        let key = SigningKey::from_seed([7; 32]).public();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, format!("{}\n", String::from(key))).unwrap();
        let forms = [String::from(key), vkey(&key), file.display().to_string()];
        assert_eq!(load(&forms.each_ref().map(String::as_str)).unwrap(), [key; 3]);
    }

    #[test]
    fn without_a_key_nothing_is_trusted() {
        for keys in [&[][..], &["no-such-file"], &[""]] {
            assert!(load(keys).unwrap_err().hint().is_some(), "{keys:?}");
        }
        let config = Config { checkpoint_key: "/nowhere/checkpoint.pub".into(), ..Config::default() };
        assert!(Args::default().load_if_there(&config).unwrap().is_none());
    }
}
