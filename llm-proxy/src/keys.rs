//! API keys out of their files. They live in memory that is wiped, and nothing here can print one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::AsyncReadExt as _;

/// Largest key file in bytes; a key has about a hundred. A folder or a disk image mounted by mistake must not be read whole.
const MAX_KEY: u64 = 4096;

/// What was found in a key file.
#[derive(Debug, Clone)]
pub enum Key {
    /// A key.
    Present(SecretString),
    /// No such file: nobody stored one.
    Absent,
    /// A file that holds no key, and why.
    Unusable(String),
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(one), Self::Present(two)) => one.expose_secret() == two.expose_secret(),
            (Self::Absent, Self::Absent) => true,
            (Self::Unusable(one), Self::Unusable(two)) => one == two,
            _ => false,
        }
    }
}

/// What all key files hold.
pub type Keys = BTreeMap<PathBuf, Key>;

/// Reads all of `files`.
pub async fn read(files: impl IntoIterator<Item = &PathBuf>) -> Keys {
    let mut keys = Keys::new();
    for file in files {
        keys.insert(file.clone(), read_one(file).await);
    }
    keys
}

async fn read_one(file: &Path) -> Key {
    let opened = match tokio::fs::File::open(file).await {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Key::Absent,
        Err(error) => return Key::Unusable(error.to_string()),
    };
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY as usize + 1));
    match opened.take(MAX_KEY + 1).read_to_string(&mut text).await {
        Ok(read) if read as u64 > MAX_KEY => Key::Unusable(format!("it is larger than {MAX_KEY} bytes")),
        Ok(_) => parse(&text),
        Err(error) => Key::Unusable(error.to_string()),
    }
}

/// A key is one word that fits an HTTP header.
fn parse(text: &str) -> Key {
    let word = text.trim();
    if word.is_empty() {
        Key::Unusable("it is empty".to_owned())
    } else if word.chars().any(|c| !c.is_ascii_graphic()) {
        Key::Unusable("it holds more than one word".to_owned())
    } else {
        Key::Present(word.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word() {
        assert_eq!(parse("sk-abc\n"), Key::Present("sk-abc".into()));
        assert!(matches!(parse(" \n"), Key::Unusable(_)));
        assert!(matches!(parse("two words"), Key::Unusable(_)));
        assert!(matches!(parse("sk-ü"), Key::Unusable(_)));
    }

    #[test]
    fn a_key_never_prints() {
        assert!(!format!("{:?}", parse("sk-abc")).contains("abc"));
    }

    #[tokio::test]
    async fn a_missing_file_is_no_key_and_no_error() {
        let file = PathBuf::from("/nonexistent/openai-api-key");
        assert_eq!(read([&file]).await.get(&file), Some(&Key::Absent));
        let folder = PathBuf::from("/");
        assert!(matches!(read([&folder]).await.get(&folder), Some(Key::Unusable(_))));
    }
}
