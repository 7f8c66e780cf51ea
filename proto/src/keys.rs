//! Ed25519 keys of what travels signed: origins, permits, checkpoints. The bus identities are nkeys and not handled here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A private key. It shows nothing of itself in `Debug`.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key: 32 bytes, as base64url without padding in JSON and in files.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Why a key or a signed token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is no PKCS#8 PEM of an Ed25519 key.
    #[error("not an Ed25519 private key in PKCS#8 PEM form")]
    BadPrivateKey,
    /// The text is no base64url of 32 bytes.
    #[error("not an Ed25519 public key (base64url of 32 bytes)")]
    BadPublicKey,
    /// Signing failed.
    #[error("signing failed")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// The token is malformed, altered, expired or signed by another key.
    #[error("the signed token is not valid: {}", plain(.0))]
    BadToken(#[source] jsonwebtoken::errors::Error),
}

fn plain(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "its signature does not match",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::InvalidAudience => "it was made for somebody else",
        ErrorKind::InvalidIssuer => "it was made by somebody else",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        _ => "it is malformed",
    }
}

impl SigningKey {
    /// A new key from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::BadPrivateKey`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| KeyError::BadPrivateKey)
    }

    /// Writes PKCS#8 PEM; the buffer is wiped when dropped.
    ///
    /// # Errors
    /// [`KeyError::BadPrivateKey`] if encoding fails.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::BadPrivateKey)
    }

    /// The key itself, for formats of their own such as signed notes.
    pub fn as_dalek(&self) -> &ed25519_dalek::SigningKey {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// HMAC-like secret id: a token that only the holder of this key can compute from the parts. Used where a message id must be the
    /// same for the same event and yet unguessable for others (a guessed id could be used up before, NATS dedupe is per stream).
    pub fn private_token(&self, parts: &[&str]) -> String {
        let secret = Zeroizing::new(hex::encode(self.0.to_bytes()));
        let mut framed = vec![secret.as_str(), "nachos-message-id"];
        framed.extend_from_slice(parts);
        // Length-framed and secret first; the output is truncated, so length extension yields nothing.
        crate::canonical::token(&framed)
    }

    /// Signs claims as a compact JWS with `alg: EdDSA` (RFC 8037) and the given `typ`, which keeps one kind of token from being taken
    /// for another (RFC 8725 section 3.11).
    pub(crate) fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> Result<String, KeyError> {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        let der = self.0.to_pkcs8_der().map_err(|_| KeyError::BadPrivateKey)?;
        let key = jsonwebtoken::EncodingKey::from_ed_der(der.as_bytes());
        jsonwebtoken::encode(&header, claims, &key).map_err(KeyError::Signing)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(public {})", String::from(self.public()))
    }
}

impl PublicKey {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks signature, algorithm and `typ`; times and names are checked by the caller, who has the clock.
    pub(crate) fn verify<C: DeserializeOwned>(&self, typ: &str, token: &str) -> Result<C, KeyError> {
        let key = jsonwebtoken::DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(self.0))
            .map_err(KeyError::BadToken)?;
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let data = jsonwebtoken::decode::<C>(token, &key, &rules).map_err(KeyError::BadToken)?;
        if data.header.typ.as_deref() == Some(typ) {
            Ok(data.claims)
        } else {
            Err(KeyError::BadToken(jsonwebtoken::errors::ErrorKind::InvalidToken.into()))
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| KeyError::BadPublicKey)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::BadPublicKey)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::from_seed([7; 32]);
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(key.public(), again.public());
        assert!(!format!("{key:?}").contains("BEGIN"));
    }

    #[test]
    fn a_token_is_for_one_key_and_one_kind() {
        let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let token = key.sign("a+jwt", &json!({"x": 1})).unwrap();
        assert_eq!(key.public().verify::<Value>("a+jwt", &token).unwrap(), json!({"x": 1}));
        assert!(key.public().verify::<Value>("b+jwt", &token).is_err());
        assert!(other.public().verify::<Value>("a+jwt", &token).is_err());
        let forged = token.replacen('.', ".e30", 1);
        assert!(key.public().verify::<Value>("a+jwt", &forged).is_err());
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let key = SigningKey::from_seed([1; 32]);
        let none =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"a+jwt"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert!(key.public().verify::<Value>("a+jwt", &none).is_err());
    }
}
