//! Whether a record is what was sealed: computed here, from the proof and a key that came from provisioning. The audit service's word
//! counts for nothing in it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bus::{Bus, CallError};
use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::{bundle, checkpoint};
use proto::audit::StoredRecord;
use proto::keys::PublicKey;
use proto::seal::{Bundle, Prove, Seal, SealRequest, Which};

use crate::shown::{Print, print, proven};

/// Verified records that are remembered; a record that was sealed once stays so.
const MAX_REMEMBERED: usize = 20_000;

/// For how long the newest checkpoint is taken for the newest.
const FRESH: Duration = Duration::from_secs(3);

/// Longest wait for one proof on a page: it says "not checked" rather than nothing at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// What is shown is what was sealed.
    Verified,
    /// No checkpoint covers it yet.
    Pending,
    /// The record is what was sealed, but its texts came, or were erased, after it was shown.
    Stale,
    /// It is not, and why.
    Failed(String),
    /// It could not be checked, and why.
    Unchecked(String),
}

impl Mark {
    /// The class in the style sheet, and the word in the answer to the script.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Pending => "pending",
            Self::Stale => "stale",
            Self::Failed(_) => "failed",
            Self::Unchecked(_) => "unchecked",
        }
    }

    /// In words.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Verified => "This is what was sealed.".to_owned(),
            Self::Stale => "Its texts came, or were erased, after this was shown: load it again.".to_owned(),
            Self::Pending => "The next checkpoint will cover it.".to_owned(),
            Self::Failed(why) | Self::Unchecked(why) if why.ends_with(['.', '?']) => why.clone(),
            Self::Failed(why) | Self::Unchecked(why) => format!("{why}."),
        }
    }
}

/// How far the record is sealed, as verified here.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    /// Records under the newest checkpoint.
    pub(crate) size: u64,
    /// When it was made, as the audit service says.
    pub(crate) at: Option<Timestamp>,
    /// The name of the key that is trusted.
    pub(crate) key: String,
    /// Names of the witnesses whose signature on it was found.
    pub(crate) witnesses: usize,
    /// What is wrong with it.
    pub(crate) problems: Vec<String>,
}

/// A record's proof as its page shows it.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) mark: Mark,
    pub(crate) bundle: Option<Bundle>,
    /// The checkpoint that it leads to, verified.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Proofs, and what was found out already.
pub(crate) struct Proofs {
    key: PublicKey,
    verified: Mutex<HashMap<u64, Print>>,
    newest: tokio::sync::Mutex<Option<(Instant, Sealed)>>,
}

impl Proofs {
    /// Trusts this key and no other.
    pub(crate) fn new(key: PublicKey) -> Self {
        Self { key, verified: Mutex::default(), newest: tokio::sync::Mutex::new(None) }
    }

    /// How far the record is sealed; asked again after a moment.
    pub(crate) async fn seal(&self, bus: &Bus) -> Sealed {
        // Whoever comes meanwhile waits for the same answer.
        let mut newest = self.newest.lock().await;
        if let Some((at, sealed)) = &*newest
            && at.elapsed() < FRESH
        {
            return sealed.clone();
        }
        let request = SealRequest { v: proto::VERSION, now: false };
        let sealed = match bus.request_within(Bus::new_trace(), &request, PATIENCE).await {
            Ok(seal) => self.open_seal(&seal),
            Err(error) => self.no_seal(vec![format!("the audit service does not say how far it has sealed: {error}")]),
        };
        *newest = Some((Instant::now(), sealed.clone()));
        sealed
    }

    fn open_seal(&self, seal: &Seal) -> Sealed {
        if seal.checkpoint.is_empty() {
            return self.no_seal(seal.problems.clone());
        }
        match checkpoint::open(&seal.checkpoint, &[self.key], &[]) {
            Ok(opened) => Sealed {
                size: opened.size,
                at: seal.at,
                witnesses: opened.witnesses.len(),
                ..self.no_seal(seal.problems.clone())
            },
            Err(error) => {
                let mut problems = seal.problems.clone();
                problems.insert(0, format!("the newest checkpoint: {error}"));
                self.no_seal(problems)
            }
        }
    }

    fn no_seal(&self, problems: Vec<String>) -> Sealed {
        Sealed { size: 0, at: None, key: checkpoint::name(&self.key), witnesses: 0, problems }
    }

    /// Whether the record with this number and fingerprint is the one that was sealed. It makes nobody seal anything.
    pub(crate) async fn mark(&self, bus: &Bus, seq: u64, fingerprint: &Print) -> Mark {
        if self.known(seq).as_ref() == Some(fingerprint) {
            return Mark::Verified;
        }
        let sealed = self.seal(bus).await;
        match sealed.problems.first() {
            Some(problem) if sealed.size == 0 => return Mark::Unchecked(problem.clone()),
            _ if seq > sealed.size => return Mark::Pending,
            _ => {}
        }
        match self.fetch(bus, seq).await {
            Ok(bundle) => self.judge(&bundle, seq, fingerprint).1,
            Err(error) => unchecked(&error),
        }
    }

    /// The whole evidence for one record; where no checkpoint covers it yet, one is made.
    pub(crate) async fn evidence(&self, bus: &Bus, record: &StoredRecord) -> Evidence {
        match self.fetch(bus, record.seq).await {
            Err(error) => Evidence { mark: unchecked(&error), bundle: None, checkpoint: None },
            Ok(bundle) => {
                let (checkpoint, mark) = self.judge(&bundle, record.seq, &print(record));
                Evidence { mark, checkpoint, bundle: Some(bundle) }
            }
        }
    }

    async fn fetch(&self, bus: &Bus, seq: u64) -> Result<Bundle, CallError> {
        let prove = Prove { v: proto::VERSION, which: Which::Seq(seq) };
        bus.request_within(Bus::new_trace(), &prove, PATIENCE).await
    }

    /// What a bundle comes to, and the checkpoint that it is under if that is to be believed.
    fn judge(&self, bundle: &Bundle, seq: u64, fingerprint: &Print) -> (Option<Checkpoint>, Mark) {
        match bundle::verify(bundle, &[self.key]) {
            Err(error) => (None, Mark::Failed(error.to_string())),
            Ok(verified) => (Some(verified.checkpoint), self.compare(bundle, seq, fingerprint)),
        }
    }

    /// Whether what a good bundle proves is what is shown.
    fn compare(&self, bundle: &Bundle, seq: u64, fingerprint: &Print) -> Mark {
        match proven(bundle) {
            None => Mark::Failed("what was sealed is no record of a component".to_owned()),
            Some(record) if record.seq != seq => Mark::Failed(format!("the proof is for record {}", record.seq)),
            Some(record) if print(&record).record != fingerprint.record => {
                Mark::Failed("what is shown differs from what was sealed".to_owned())
            }
            Some(record) if print(&record) != *fingerprint => Mark::Stale,
            Some(_) => {
                self.remember(seq, fingerprint);
                Mark::Verified
            }
        }
    }

    fn known(&self, seq: u64) -> Option<Print> {
        self.verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&seq).cloned()
    }

    fn remember(&self, seq: u64, fingerprint: &Print) {
        let mut verified = self.verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if verified.len() >= MAX_REMEMBERED {
            // Cheap to find out again; what is looked at next is rarely what was looked at long ago.
            verified.clear();
        }
        verified.insert(seq, fingerprint.clone());
    }
}

fn unchecked(error: &CallError) -> Mark {
    Mark::Unchecked(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::{leaf, tree::Frontier};
    use proto::keys::SigningKey;
    use proto::seal::{Body, RawRecord};

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32])
    }

    /// The only record of a log, sealed with a key.
    fn sealed(body: &str, signer: &SigningKey) -> Bundle {
        let subject = "nachos.audit.log.policy".to_owned();
        let record = RawRecord { seq: 1, time_ns: 1_000, subject, body: Body::new(body.as_bytes().to_vec()) };
        let mut tree = Frontier::empty();
        tree.push(leaf::hash(&record));
        let checkpoint = checkpoint::sign(signer, 1, tree.root()).unwrap();
        Bundle { v: 1, record, proof: vec![], checkpoint, key: signer.public(), parts: BTreeMap::new() }
    }

    fn shown(bundle: &Bundle) -> Print {
        print(&proven(bundle).unwrap())
    }

    #[test]
    fn what_was_sealed_is_verified_and_remembered() {
        let (proofs, bundle) = (Proofs::new(key(1).public()), sealed(r#"{"type":"x"}"#, &key(1)));
        let (checkpoint, mark) = proofs.judge(&bundle, 1, &shown(&bundle));
        assert_eq!((checkpoint.unwrap().size, mark), (1, Mark::Verified));
        assert_eq!(proofs.known(1), Some(shown(&bundle)));
    }

    #[test]
    fn a_record_that_is_shown_otherwise_is_not_verified() {
        let (proofs, bundle) = (Proofs::new(key(1).public()), sealed(r#"{"type":"x"}"#, &key(1)));
        let other = shown(&sealed(r#"{"type":"y"}"#, &key(1)));
        assert!(matches!(proofs.judge(&bundle, 1, &other).1, Mark::Failed(why) if why.contains("differs")));
        assert!(matches!(proofs.judge(&bundle, 2, &other).1, Mark::Failed(why) if why.contains("for record 1")));
        assert_eq!(proofs.known(1), None);
    }

    #[test]
    fn altered_bytes_and_strange_keys_are_not_verified() {
        let proofs = Proofs::new(key(1).public());
        let mut altered = sealed(r#"{"type":"x"}"#, &key(1));
        altered.record.body = Body::new(br#"{"type":"z"}"#.to_vec());
        let (checkpoint, mark) = proofs.judge(&altered, 1, &shown(&altered));
        assert!(checkpoint.is_none() && matches!(mark, Mark::Failed(why) if why.contains("altered")));
        let strange = sealed(r#"{"type":"x"}"#, &key(2));
        assert!(
            matches!(proofs.judge(&strange, 1, &shown(&strange)).1, Mark::Failed(why) if why.contains("not trusted"))
        );
    }

    #[test]
    fn a_checkpoint_of_a_strange_key_seals_nothing() {
        let (proofs, mine, strange) = (Proofs::new(key(1).public()), sealed("{}", &key(1)), sealed("{}", &key(2)));
        let seal = |bundle: &Bundle| Seal {
            size: 1,
            checkpoint: bundle.checkpoint.clone(),
            at: None,
            key: bundle.key,
            first: 1,
            archives: vec![],
            problems: vec![],
        };
        let good = proofs.open_seal(&seal(&mine));
        assert_eq!((good.size, good.problems.len()), (1, 0));
        let bad = proofs.open_seal(&seal(&strange));
        assert_eq!(bad.size, 0);
        assert!(bad.problems[0].contains("not trusted"), "{:?}", bad.problems);
    }
}
