//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed note, Ed25519, with the cosignatures of witnesses (C2SP tlog-cosignature)
//! where there are any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, Verifier as _, VerifyingKey};
use jiff::Timestamp;
use proto::keys::{PublicKey, SigningKey};
use proto::seal::NodeHash;
use sha2::{Digest as _, Sha256};
use signed_note::{Note, NoteError, Signer, Verifier, VerifierList, key_id};
use tlog_tiles::Hash;

/// Type of an Ed25519 signature over the note's text (C2SP signed-note).
const ED25519: u8 = 0x01;

/// Type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature).
const COSIGNATURE: u8 = 0x04;

/// Bytes of the time before a cosignature's signature.
const TIME: usize = 8;

/// A checkpoint whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; also the name of its key.
    pub origin: String,
    /// Leaves of the tree.
    pub size: u64,
    /// Its root.
    pub root: NodeHash,
    /// The key that signed.
    pub signed_by: PublicKey,
    /// The known witnesses that cosigned.
    pub witnesses: Vec<Cosigned>,
}

/// A witness's word that it saw this checkpoint and that it continued the last one it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The witness.
    pub name: String,
    /// When, by its clock.
    pub at: Timestamp,
}

/// A witness's key.
#[derive(Debug, Clone)]
pub struct WitnessKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// Why a note is no checkpoint of this log.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It is malformed.
    #[error("it is no signed checkpoint")]
    Malformed,
    /// None of the trusted keys signed it.
    #[error("it is signed by a key that is not trusted ({0})")]
    UnknownKey(String),
    /// Somebody changed it, or signed in another's name.
    #[error("its signature by {0} is not valid")]
    BadSignature(String),
    /// It could not be signed.
    #[error("the checkpoint could not be signed")]
    Unsigned,
    /// The text is no key.
    #[error("not an Ed25519 public key: give base64url of 32 bytes, or a C2SP verifier key (name+hash+base64)")]
    BadKey,
}

/// The name of a log: `nachos-audit-` and the first eight hex digits of the key's SHA-256.
pub fn name(key: &PublicKey) -> String {
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    format!("nachos-audit-{}", digest.get(..8).unwrap_or_default())
}

/// The key as a C2SP verifier key, `name+hash+base64`, for other people's tools.
pub fn vkey(key: &PublicKey) -> String {
    let public = [&[ED25519], &key.as_bytes()[..]].concat();
    let name = name(key);
    format!("{name}+{:08x}+{}", key_id(&name, &public), STANDARD.encode(public))
}

/// Reads a public key: as our files hold it (base64url), or as a C2SP verifier key.
///
/// # Errors
/// [`CheckpointError::BadKey`].
pub fn read_key(text: &str) -> Result<PublicKey, CheckpointError> {
    let text = text.trim();
    if !text.contains('+') {
        return PublicKey::try_from(text.to_owned()).map_err(|_| CheckpointError::BadKey);
    }
    let (_, _, bytes) = split_vkey(text, ED25519)?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    PublicKey::try_from(text).map_err(|_| CheckpointError::BadKey)
}

/// Name, hash and the 32 bytes of a verifier key of this type. The hash must be that of name and key, or a typing error would pass.
fn split_vkey(text: &str, kind: u8) -> Result<(&str, u32, [u8; 32]), CheckpointError> {
    let bad = || CheckpointError::BadKey;
    let (name, rest) = text.split_once('+').ok_or_else(bad)?;
    let (hash, key) = rest.split_once('+').ok_or_else(bad)?;
    let key = STANDARD.decode(key).map_err(|_| bad())?;
    let id = u32::from_str_radix(hash, 16).map_err(|_| bad())?;
    match key.split_first() {
        Some((found, bytes)) if *found == kind && key_id(name, &key) == id => {
            bytes.try_into().map(|bytes| (name, id, bytes)).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

impl std::str::FromStr for WitnessKey {
    type Err = CheckpointError;

    /// A C2SP verifier key of type 0x04.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (name, id, bytes) = split_vkey(text.trim(), COSIGNATURE)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| CheckpointError::BadKey)?;
        Ok(Self { name: name.to_owned(), id, key })
    }
}

struct Ours {
    name: String,
    id: u32,
    key: ed25519_dalek::SigningKey,
}

impl Signer for Ours {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        self.key.try_sign(text).map(|signature| signature.to_vec())
    }
}

struct Trusted {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl Verifier for Trusted {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify(text, &signature).is_ok())
    }
}

impl Verifier for WitnessKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<TIME>() else { return false };
        let signed = [format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time)).as_bytes(), text].concat();
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify(&signed, &signature).is_ok())
    }
}

fn id_of(key: &PublicKey) -> u32 {
    key_id(&name(key), &[&[ED25519], &key.as_bytes()[..]].concat())
}

/// Signs a checkpoint; the note's text.
///
/// # Errors
/// [`CheckpointError::Unsigned`].
pub fn sign(key: &SigningKey, size: u64, root: NodeHash) -> Result<String, CheckpointError> {
    let public = key.public();
    let text = tlog_tiles::Checkpoint::new(&name(&public), size, Hash(root.0), "");
    let text = text.map_err(|_| CheckpointError::Unsigned)?.to_bytes();
    let signer = Ours { name: name(&public), id: id_of(&public), key: key.as_dalek().clone() };
    let mut note = Note::new(&text, &[]).map_err(|_| CheckpointError::Unsigned)?;
    note.add_sigs(&[&signer]).map_err(|_| CheckpointError::Unsigned)?;
    String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::Unsigned)
}

/// Reads a note and checks that one of the trusted keys signed it, under its own name; and the cosignatures of known witnesses.
///
/// # Errors
/// [`CheckpointError`]; a cosignature of a known witness that is not valid is one too.
pub fn open(note: &str, trusted: &[PublicKey], witnesses: &[WitnessKey]) -> Result<Checkpoint, CheckpointError> {
    let note = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
    let text = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::Malformed)?;
    let key = trusted.iter().find(|key| name(key) == text.origin());
    let key = key.ok_or_else(|| CheckpointError::UnknownKey(text.origin().to_owned()))?;
    let bad_key = || CheckpointError::BadSignature(text.origin().to_owned());
    let ours = Trusted {
        name: name(key),
        id: id_of(key),
        key: VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| bad_key())?,
    };
    let own = ours.id;
    let mut known: Vec<Box<dyn Verifier>> = vec![Box::new(ours)];
    for witness in witnesses {
        known.push(Box::new(witness.clone()));
    }
    let (verified, _) = note.verify(&VerifierList::new(known)).map_err(|error| told(&error, text.origin()))?;
    if !verified.iter().any(|signature| signature.id() == own && signature.name() == text.origin()) {
        return Err(CheckpointError::UnknownKey(text.origin().to_owned()));
    }
    let cosigned = verified.iter().filter(|signature| signature.id() != own || signature.name() != text.origin());
    Ok(Checkpoint {
        origin: text.origin().to_owned(),
        size: text.size(),
        root: NodeHash(text.hash().0),
        signed_by: *key,
        witnesses: cosigned.filter_map(cosigned_by).collect(),
    })
}

fn cosigned_by(signature: &signed_note::Signature) -> Option<Cosigned> {
    let (time, _) = signature.signature().split_first_chunk::<TIME>()?;
    let at = Timestamp::from_second(i64::try_from(u64::from_be_bytes(*time)).ok()?).ok()?;
    Some(Cosigned { name: signature.name().to_owned(), at })
}

fn told(error: &NoteError, origin: &str) -> CheckpointError {
    match error {
        NoteError::InvalidSignature { name, .. } => CheckpointError::BadSignature(name.clone()),
        NoteError::UnverifiedNote => CheckpointError::UnknownKey(origin.to_owned()),
        _ => CheckpointError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NodeHash = NodeHash([7; 32]);

    #[test]
    fn a_checkpoint_is_believed_under_its_own_key_only() {
        let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let note = sign(&key, 1730, ROOT).unwrap();
        let found = open(&note, &[other.public(), key.public()], &[]).unwrap();
        assert_eq!((found.size, found.root, found.signed_by), (1730, ROOT, key.public()));
        assert!(matches!(open(&note, &[other.public()], &[]), Err(CheckpointError::UnknownKey(_))));
        let forged = note.replacen("1730", "1731", 1);
        assert!(matches!(open(&forged, &[key.public()], &[]), Err(CheckpointError::BadSignature(_))));
        for bad in ["", "x", &note[..note.len() - 2], &note.replace("\n\n", "\n")] {
            assert!(open(bad, &[key.public()], &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_read_in_both_forms() {
        let key = SigningKey::from_seed([1; 32]).public();
        assert_eq!(read_key(&String::from(key)).unwrap(), key);
        assert_eq!(read_key(&format!("{}\n", vkey(&key))).unwrap(), key);
        let mistyped = vkey(&key).replacen("nachos", "nachoz", 1);
        assert!(matches!(read_key(&mistyped), Err(CheckpointError::BadKey)));
        // A library that is not ours takes it as well.
        assert!(signed_note::StandardVerifier::new(&vkey(&key)).is_ok());
    }

    #[test]
    fn a_witness_is_named_with_its_time_and_a_false_one_refused() {
        let key = SigningKey::from_seed([1; 32]);
        let witness = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let public = [&[COSIGNATURE], &witness.verifying_key().to_bytes()[..]].concat();
        let (name, time) = ("witness.example/w1", 1_700_000_000_u64);
        let id = key_id(name, &public);
        let known: WitnessKey = format!("{name}+{id:08x}+{}", STANDARD.encode(&public)).parse().unwrap();
        let note = sign(&key, 5, ROOT).unwrap();
        let text = note.split("\n\n").next().unwrap().to_owned() + "\n";
        let signature = witness.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
        let line = |time: u64| {
            let bytes = [&id.to_be_bytes()[..], &time.to_be_bytes(), &signature.to_bytes()].concat();
            format!("{note}— {name} {}\n", STANDARD.encode(bytes))
        };
        let found = open(&line(time), &[key.public()], std::slice::from_ref(&known)).unwrap();
        let expected = Cosigned { name: name.to_owned(), at: Timestamp::from_second(1_700_000_000).unwrap() };
        assert_eq!(found.witnesses, [expected]);
        assert!(
            open(&line(time), &[key.public()], &[]).unwrap().witnesses.is_empty(),
            "an unknown witness counts nothing"
        );
        assert!(matches!(open(&line(time + 1), &[key.public()], &[known]), Err(CheckpointError::BadSignature(_))));
    }
}
