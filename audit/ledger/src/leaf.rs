//! What a leaf of the tree is made of: number, time and subject of a record, and its bytes as they are stored.
//!
//! Five lines of ASCII and then the record, so that a shell and `sha256sum` are enough to make one. Every field but the last ends at a
//! line feed that it cannot hold itself, and the last has its length before it: two records never frame alike.

use proto::seal::{NodeHash, RawRecord};

/// First line of a record's leaf data; another form would have another number.
const RECORD: &str = "nachos-record/1";

/// First line of the leaf data of a number whose record is gone.
const MISSING: &str = "nachos-missing/1";

/// The leaf data of a record.
pub fn data(record: &RawRecord) -> Vec<u8> {
    let body = record.body.as_bytes();
    let RawRecord { seq, time_ns, subject, .. } = record;
    let mut data = format!("{RECORD}\n{seq}\n{time_ns}\n{subject}\n{}\n", body.len()).into_bytes();
    data.extend_from_slice(body);
    data
}

/// The leaf of a record: `SHA-256(0x00 || data)` (RFC 6962 section 2.1).
pub fn hash(record: &RawRecord) -> NodeHash {
    NodeHash(tlog_tiles::record_hash(&data(record)).0)
}

/// The leaf in the place of a record that the stream confirmed not to hold.
pub fn missing(seq: u64) -> NodeHash {
    NodeHash(tlog_tiles::record_hash(format!("{MISSING}\n{seq}\n").as_bytes()).0)
}

#[cfg(test)]
mod tests {
    use proto::seal::Body;

    use super::*;

    #[test]
    fn a_leaf_is_five_lines_and_the_record() {
        let record = RawRecord {
            seq: 7,
            time_ns: 1_700_000_000_000_000_001,
            subject: "nachos.audit.log.cli".into(),
            body: Body::new(b"{}\n".to_vec()),
        };
        let data = data(&record);
        assert_eq!(data, b"nachos-record/1\n7\n1700000000000000001\nnachos.audit.log.cli\n3\n{}\n");
        assert_ne!(hash(&record), missing(7));
        assert_ne!(missing(7), missing(8));
    }
}
